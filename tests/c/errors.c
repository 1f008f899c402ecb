/* Functions with each pointer that may not be NULL (of error feedback, tensors and lists in feedback.c, shared_state.c and
 * operations.c), before pcclInit, and at the wrong moment; settings that cannot be; and the codes that take a mishap: a data port
 * that cannot be had, a peer that leaves in the middle. */
#include "harness.h"

#include <limits.h>

static const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;

/* None of these looks at what it is given before it knows that the library is ready. */
static void not_initialized(void)
{
    pcclCommCreateParams_t params = params_of(loopback(1), 0);
    pcclReduceDescriptor_t sum = operation(1, pcclFloat, pcclSum, 0);
    pcclReduceOpDescriptor_t list;
    pcclAsyncReduceOp_t handle = {NULL, 0};
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;
    pcclSharedState_t state = {0, 0, NULL};
    pcclStats_t stats;
    float one = 1;
    bool flag = false;
    int size = 0;

    OK(pcclConfigCreate(&config));
    CHECK(pcclCreateCommunicator(&params, &comm) == pcclNotInitialized);
    CHECK(pcclCreateCommunicatorWithConfig(&params, config, &comm) == pcclNotInitialized);
    OK(pcclConfigDestroy(config));
    CHECK(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size) == pcclNotInitialized);
    CHECK(pcclDestroyCommunicator(comm) == pcclNotInitialized);
    CHECK(pcclConnect(comm) == pcclNotInitialized);
    CHECK(pcclUpdateTopology(comm) == pcclNotInitialized);
    CHECK(pcclArePeersPending(comm, &flag) == pcclNotInitialized);
    CHECK(pcclOptimizeTopology(comm) == pcclNotInitialized);
    CHECK(pcclAllReduce(&one, &one, &sum, comm, NULL) == pcclNotInitialized);
    CHECK(pcclAllReduceAsync(&one, &one, &sum, comm, &handle) == pcclNotInitialized);
    CHECK(pcclAwaitAsyncReduce(&handle, NULL) == pcclNotInitialized);
    CHECK(pcclTestAsyncReduce(&handle, &flag) == pcclNotInitialized);
    CHECK(pcclAwaitAsyncReduceTimeout(&handle, 1, NULL) == pcclNotInitialized);
    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    CHECK(pcclAllReduceMultipleWithRetry(&list, 1, comm, NULL, 1) == pcclNotInitialized);
    CHECK(pcclAllReduceMultipleWithRetryAndFeedback(&list, NULL, 1, comm, NULL, 1) == pcclNotInitialized);
    CHECK(pcclSynchronizeSharedState(comm, &state, popular, NULL) == pcclNotInitialized);
    stats.struct_size = sizeof stats;
    CHECK(pcclGetStats(comm, &stats) == pcclNotInitialized);
    FAILS(pcclConnect(comm), pcclNotInitialized, "pcclInit");
}

static void null_pointers(void)
{
    pcclCommCreateParams_t params = params_of(loopback(1), 0);
    pcclReduceDescriptor_t sum = operation(1, pcclFloat, pcclSum, 0);
    pcclReduceOpDescriptor_t list;
    pcclAsyncReduceOp_t handle = {NULL, 0};
    pcclComm_t *comm = NULL;
    pcclSharedState_t state = {0, 0, NULL};
    ccoip_socket_address_t address;
    pcclConfig_t *config = NULL;
    pcclStats_t stats;
    char words[8];
    float one = 1;
    bool flag = false;
    int size = 0;

    CHECK(pcclCreateCommunicator(&params, NULL) == pcclInvalidArgument);
    CHECK(pcclCreateCommunicatorWithConfig(NULL, NULL, &comm) == pcclInvalidArgument);
    CHECK(pcclGetAttribute(NULL, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size) == pcclInvalidArgument);
    CHECK(pcclDestroyCommunicator(NULL) == pcclInvalidArgument);
    FAILS(pcclConnect(NULL), pcclInvalidArgument, "comm");
    CHECK(pcclUpdateTopology(NULL) == pcclInvalidArgument);
    CHECK(pcclArePeersPending(NULL, &flag) == pcclInvalidArgument);
    CHECK(pcclOptimizeTopology(NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduce(&one, &one, &sum, NULL, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduceAsync(&one, &one, &sum, NULL, &handle) == pcclInvalidArgument);
    CHECK(pcclAwaitAsyncReduce(NULL, NULL) == pcclInvalidArgument && pcclAwaitAsyncReduce(&handle, NULL) == pcclInvalidArgument);
    CHECK(pcclTestAsyncReduce(NULL, &flag) == pcclInvalidArgument);
    CHECK(pcclTestAsyncReduce(&handle, NULL) == pcclInvalidArgument && pcclTestAsyncReduce(&handle, &flag) == pcclInvalidArgument);
    CHECK(pcclAwaitAsyncReduceTimeout(NULL, 1, NULL) == pcclInvalidArgument);
    CHECK(pcclAwaitAsyncReduceTimeout(&handle, 1, NULL) == pcclInvalidArgument);
    OK(pcclConfigCreate(&config));
    CHECK(pcclConfigSet(config, "pool", NULL) == pcclInvalidArgument);
    CHECK(pcclConfigSet(config, NULL, "3") == pcclInvalidArgument && pcclConfigSet(NULL, "pool", "3") == pcclInvalidArgument);
    CHECK(pcclCreateCommunicatorWithConfig(&params, config, NULL) == pcclInvalidArgument);
    CHECK(pcclCreateCommunicatorWithConfig(NULL, config, &comm) == pcclInvalidArgument);
    CHECK(pcclCreateMasterWithConfig(loopback(0), config, NULL) == pcclInvalidArgument);
    OK(pcclConfigDestroy(config));
    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    CHECK(pcclAllReduceMultipleWithRetry(&list, 1, NULL, NULL, 1) == pcclInvalidArgument);
    CHECK(pcclAllReduceMultipleWithRetryAndFeedback(&list, NULL, 1, NULL, NULL, 1) == pcclInvalidArgument);
    CHECK(pcclSynchronizeSharedState(NULL, &state, popular, NULL) == pcclInvalidArgument);
    stats.struct_size = sizeof stats;
    CHECK(pcclGetStats(NULL, &stats) == pcclInvalidArgument);
    CHECK(pcclCreateMaster(loopback(0), NULL) == pcclInvalidArgument);
    CHECK(pcclCreateMasterWithConfig(loopback(0), NULL, NULL) == pcclInvalidArgument);
    CHECK(pcclRunMaster(NULL) == pcclInvalidArgument);
    CHECK(pcclMasterGetAddress(NULL, &address) == pcclInvalidArgument);
    CHECK(pcclInterruptMaster(NULL) == pcclInvalidArgument);
    CHECK(pcclMasterAwaitTermination(NULL) == pcclInvalidArgument);
    CHECK(pcclDestroyMaster(NULL) == pcclInvalidArgument);
    CHECK(pcclConfigDestroy(NULL) == pcclInvalidArgument);
    /* Who asks wrongly can ask again. */
    CHECK(pcclGetLastError(NULL, 8) == pcclInvalidArgument && pcclGetLastError(words, 0) == pcclInvalidArgument);
    OK(pcclGetLastError(words, sizeof words));
    CHECK(strlen(words) == sizeof words - 1 && strncmp(words, "pcclConfigDestroy", sizeof words - 1) == 0);
    CHECK(pcclGetVersion(NULL, NULL, NULL) == pcclInvalidArgument);
}

/* Made, but not connected or not run. */
static void wrong_moment(void)
{
    pcclComm_t *comm = communicator(loopback(1));
    pcclReduceDescriptor_t sum = operation(1, pcclFloat, pcclSum, 0);
    pcclMasterInstance_t *master = NULL;
    pcclReduceOpDescriptor_t list;
    pcclAsyncReduceOp_t handle;
    ccoip_socket_address_t odd = loopback(0);
    pcclStats_t stats;
    float one = 1;
    bool flag = false;

    CHECK(pcclUpdateTopology(comm) == pcclInvalidUsage);
    CHECK(pcclArePeersPending(comm, &flag) == pcclInvalidUsage && pcclArePeersPending(comm, NULL) == pcclInvalidArgument);
    CHECK(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduce(&one, &one, &sum, comm, NULL) == pcclInvalidUsage);
    CHECK(pcclAllReduce(&one, &one, NULL, comm, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduce(NULL, &one, &sum, comm, NULL) == pcclInvalidArgument);
    CHECK(pcclSynchronizeSharedState(comm, NULL, popular, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduceAsync(&one, &one, &sum, comm, &handle) == pcclInvalidUsage);
    CHECK(pcclAllReduceAsync(&one, &one, &sum, comm, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduceAsync(&one, &one, NULL, comm, &handle) == pcclInvalidArgument);
    CHECK(pcclAllReduceAsync(&one, NULL, &sum, comm, &handle) == pcclInvalidArgument);
    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    CHECK(pcclAllReduceMultipleWithRetry(&list, 1, comm, NULL, 1) == pcclInvalidUsage);
    CHECK(pcclAllReduceWithFeedback(&one, &one, NULL, &sum, comm, NULL) == pcclInvalidUsage);
    CHECK(pcclAllReduceWithFeedbackAsync(&one, &one, NULL, &sum, comm, &handle) == pcclInvalidUsage);
    CHECK(pcclAllReduceMultipleWithRetryAndFeedback(&list, NULL, 1, comm, NULL, 1) == pcclInvalidUsage);
    CHECK(pcclGetStats(comm, NULL) == pcclInvalidArgument);
    stats.struct_size = sizeof stats;
    OK(pcclGetStats(comm, &stats));
    CHECK(stats.ops_reduced == 0);
    OK(pcclDestroyCommunicator(comm));

    OK(pcclCreateMaster(loopback(0), &master));
    CHECK(pcclInterruptMaster(master) == pcclInvalidUsage);
    CHECK(pcclMasterAwaitTermination(master) == pcclInvalidUsage);
    CHECK(pcclMasterGetAddress(master, NULL) == pcclInvalidArgument);
    OK(pcclDestroyMaster(master));
    odd.inet.protocol = (ccoip_inet_protocol_t)7;
    FAILS(pcclCreateMaster(odd, &master), pcclInvalidArgument, "7");
}

/* A run key asks for what there is not: nobody is to believe that it is there. */
static void run_key(void)
{
    pcclCommCreateParams_t params = params_of(loopback(1), 0);
    pcclMasterInstance_t *master = NULL;
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;

    OK(pcclConfigCreate(&config));
    FAILS(pcclConfigSet(config, "run_key", "secret"), pcclInvalidArgument, "cannot encrypt");
    /* Not even text. */
    CHECK(setenv("PCCL_RUN_KEY", "secret\xff", 1) == 0);
    FAILS(pcclCreateCommunicator(&params, &comm), pcclInvalidUsage, "PCCL_RUN_KEY");
    FAILS(pcclCreateCommunicatorWithConfig(&params, config, &comm), pcclInvalidUsage, "PCCL_RUN_KEY");
    FAILS(pcclCreateMaster(loopback(0), &master), pcclInvalidUsage, "PCCL_RUN_KEY");
    FAILS(pcclCreateMasterWithConfig(loopback(0), config, &master), pcclInvalidUsage, "PCCL_RUN_KEY");
    CHECK(unsetenv("PCCL_RUN_KEY") == 0);
    OK(pcclConfigSet(config, "transport", "tcp"));
    FAILS(pcclConfigSet(config, "transport", "quic"), pcclInvalidArgument, "tcp only");
    OK(pcclConfigDestroy(config));
    CHECK(!comm && !master);
}

/* What only the system knows. */
static void congestion_control_that_is_none(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pcclCommCreateParams_t params = params_of(address, 0);
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;

    OK(pcclConfigCreate(&config));
    OK(pcclConfigSet(config, "tcp_congestion", "nosuch"));
    OK(pcclCreateCommunicatorWithConfig(&params, config, &comm));
    OK(pcclConfigDestroy(config));
    FAILS(pcclConnect(comm), pcclInvalidArgument, "nosuch");
    OK(pcclDestroyCommunicator(comm));
    end_master(master);
}

static void alone(void)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclFloat, pcclSum, 0);
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pcclComm_t *comm = communicator(address);
    pcclReduceOpDescriptor_t list;
    pcclAsyncReduceOp_t handle;
    float one = 1;

    OK(pcclConnect(comm));
    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    CHECK(pcclAllReduceWithFeedbackAsync(&one, &one, NULL, &sum, comm, &handle) == pcclTooFewPeers);
    CHECK(pcclAllReduceMultipleWithRetryAndFeedback(&list, NULL, 1, comm, NULL, 1) == pcclTooFewPeers);
    CHECK(pcclAllReduceMultipleWithRetry(&list, 0, comm, NULL, 1) == pcclTooFewPeers);
    CHECK(one == 1);
    OK(pcclDestroyCommunicator(comm));
    end_master(master);
}

/* The port that data should come to is the master's. */
static void no_data_port(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address), *other = NULL;
    pcclCommCreateParams_t params = params_of(address, 0);
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;
    char listen[32];

    snprintf(listen, sizeof listen, "127.0.0.1:%u", (unsigned)address.port);
    OK(pcclConfigCreate(&config));
    OK(pcclConfigSet(config, "listen", listen));
    OK(pcclCreateCommunicatorWithConfig(&params, config, &comm));
    FAILS(pcclConnect(comm), pcclRankConnectionFailed, "data port");
    OK(pcclDestroyCommunicator(comm));
    OK(pcclConfigDestroy(config));
    OK(pcclCreateMaster(address, &other));
    CHECK(pcclRunMaster(other) == pcclInvalidUsage);
    OK(pcclDestroyMaster(other));
    end_master(master);
}

/* The third leaves while the others wait for it; then they go on without it. */
static void deserted(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1), go = operation(1, pcclInt32, pcclSum, 2);
    pcclAsyncReduceOp_t handle;
    pcclStats_t stats;
    int32_t one = 1, ready = 1;
    bool flag = false, aborted = false;

    if (peer->index != 2) {
        OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
        FAILS(pcclArePeersPending(peer->comm, &flag), pcclPendingAsyncOps, "tag 1");
        FAILS(pcclOptimizeTopology(peer->comm), pcclPendingAsyncOps, "tag 1");
    }
    /* It takes the third, so after it the master knows that the others have begun. */
    OK(pcclAllReduce(&ready, &ready, &go, peer->comm, NULL));
    if (peer->index == 2)
        return;
    /* Aborted at both, or at neither: where the third's links are known to be gone before itself, what it has not begun is carried over. */
    if (pcclAwaitAsyncReduce(&handle, NULL) == pcclRankConnectionLost) {
        aborted = true;
        CHECK(one == 1);
        OK(pcclAllReduce(&one, &one, &sum, peer->comm, NULL));
    }
    CHECK(one == 2 && ready == 3);
    stats.struct_size = sizeof stats;
    OK(pcclGetStats(peer->comm, &stats));
    CHECK(stats.ops_aborted == (aborted ? 1 : 0) && stats.ops_reduced == 2);
}

/* The only other one leaves; to call again, as after any abort, then tells that there is nobody. */
static void abandoned(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1), go = operation(1, pcclInt32, pcclSum, 2);
    pcclAsyncReduceOp_t handle;
    pcclReduceOpDescriptor_t list;
    int32_t one = 1, ready = 1;

    if (peer->index != 1)
        OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    OK(pcclAllReduce(&ready, &ready, &go, peer->comm, NULL));
    if (peer->index == 1)
        return;
    CHECK(pcclAwaitAsyncReduceTimeout(&handle, 60000, NULL) == pcclRankConnectionLost);
    CHECK(one == 1 && ready == 2);
    CHECK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle) == pcclTooFewPeers);
    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    CHECK(pcclAllReduceMultipleWithRetry(&list, 1, peer->comm, NULL, 1) == pcclTooFewPeers);
}

/* All but success have words of their own; none is made up for what is no code. */
static void words(void)
{
    int code, other;

    for (code = 0; code <= 12; code++)
        for (other = code + 1; other <= 13; other++)
            CHECK(strcmp(pcclGetErrorString((pcclResult_t)code), pcclGetErrorString((pcclResult_t)other)) != 0);
    CHECK(strcmp(pcclGetErrorString((pcclResult_t)13), pcclGetErrorString((pcclResult_t)INT_MIN)) == 0);
}

int main(void)
{
    hang_is_failure(100);
    not_initialized();
    OK(pcclInit());
    null_pointers();
    wrong_moment();
    run_key();
    congestion_control_that_is_none();
    alone();
    no_data_port();
    together(3, deserted);
    together(2, abandoned);
    words();
    puts("errors.c: every mistake has its code");
    return 0;
}

/* Handles after their end: whatever is called with one that was destroyed, by whatever thread, has a code, and what waits with one
 * that is destroyed just now comes back. Handles of operations that were awaited are among them. */
#include "harness.h"

static const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;

#define GONE(call) FAILS(call, pcclInvalidArgument, "destroyed, or never made")

/* Every function that takes a communicator, or a handle of one of its operations. */
static void all_refuse(pcclComm_t *comm, const pcclAsyncReduceOp_t *handle)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 9);
    pcclReduceOpDescriptor_t list;
    pcclSharedState_t state = {0, 0, NULL};
    pcclAsyncReduceOp_t other;
    pcclStats_t stats;
    int32_t one = 1;
    bool flag = false;
    int size = 0;

    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    stats.struct_size = sizeof stats;
    GONE(pcclConnect(comm));
    GONE(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size));
    GONE(pcclUpdateTopology(comm));
    GONE(pcclArePeersPending(comm, &flag));
    GONE(pcclOptimizeTopology(comm));
    GONE(pcclAllReduce(&one, &one, &sum, comm, NULL));
    GONE(pcclAllReduceAsync(&one, &one, &sum, comm, &other));
    GONE(pcclAllReduceWithFeedback(&one, &one, NULL, &sum, comm, NULL));
    GONE(pcclAllReduceWithFeedbackAsync(&one, &one, NULL, &sum, comm, &other));
    GONE(pcclAllReduceMultipleWithRetry(&list, 1, comm, NULL, 1));
    GONE(pcclAllReduceMultipleWithRetryAndFeedback(&list, NULL, 1, comm, NULL, 1));
    GONE(pcclAwaitAsyncReduce(handle, NULL));
    GONE(pcclAwaitAsyncReduceTimeout(handle, 1000, NULL));
    GONE(pcclTestAsyncReduce(handle, &flag));
    GONE(pcclSynchronizeSharedState(comm, &state, popular, NULL));
    GONE(pcclGetStats(comm, &stats));
    GONE(pcclDestroyCommunicator(comm));
    CHECK(one == 1);
}

static void after_the_end(void)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    struct pair peers = pair();
    ccoip_socket_address_t address;
    pcclAsyncReduceOp_t handle;
    pcclComm_t *later;
    int32_t one = 1;
    int i;

    OK(pcclMasterGetAddress(peers.master, &address));
    OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &handle));
    OK(pcclDestroyCommunicator(peers.first));
    all_refuse(peers.first, &handle);
    /* Whatever is made later is another one. */
    for (i = 0; i < 100; i++) {
        later = communicator(address);
        CHECK(later != peers.first);
        OK(pcclDestroyCommunicator(later));
    }
    later = communicator(address);
    all_refuse(peers.first, &handle);
    OK(pcclDestroyCommunicator(later));
    OK(pcclDestroyCommunicator(peers.second));

    end_master(peers.master);
    GONE(pcclRunMaster(peers.master));
    GONE(pcclMasterGetAddress(peers.master, &address));
    GONE(pcclInterruptMaster(peers.master));
    GONE(pcclMasterAwaitTermination(peers.master));
    GONE(pcclDestroyMaster(peers.master));
}

static void settings(void)
{
    ccoip_socket_address_t address = loopback(0);
    pcclCommCreateParams_t params = params_of(address, 0);
    pcclMasterInstance_t *master = NULL;
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;

    OK(pcclConfigCreate(&config));
    OK(pcclConfigDestroy(config));
    GONE(pcclConfigSet(config, "pool", "3"));
    GONE(pcclCreateCommunicatorWithConfig(&params, config, &comm));
    GONE(pcclCreateMasterWithConfig(address, config, &master));
    GONE(pcclConfigDestroy(config));
    CHECK(!comm && !master);
}

/* One of another kind is none, and nothing is read where it points to. */
static void other_kinds(void)
{
    pcclComm_t *comm = communicator(loopback(1));
    int number = 7, size = 0;

    GONE(pcclRunMaster((pcclMasterInstance_t *)(void *)comm));
    GONE(pcclConfigSet((pcclConfig_t *)(void *)comm, "pool", "3"));
    GONE(pcclGetAttribute((pcclComm_t *)(void *)&number, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size));
    GONE(pcclDestroyCommunicator((pcclComm_t *)(void *)((char *)comm + 1)));
    OK(pcclDestroyCommunicator(comm));
    CHECK(number == 7);
}

/* What a thread does while its communicator, or its master, is destroyed by another one. */
struct caller {
    pthread_t thread;
    pcclComm_t *comm;
    pcclMasterInstance_t *master;
    pcclAsyncReduceOp_t handle;
};

#define MEANWHILE(call) FAILS(call, pcclInvalidArgument, "was destroyed")

static void *awaits(void *argument)
{
    struct caller *caller = argument;
    MEANWHILE(pcclAwaitAsyncReduce(&caller->handle, NULL));
    return NULL;
}

static void *awaits_for_long(void *argument)
{
    struct caller *caller = argument;
    MEANWHILE(pcclAwaitAsyncReduceTimeout(&caller->handle, 1000 * 1000, NULL));
    return NULL;
}

static void *polls(void *argument)
{
    struct caller *caller = argument;
    bool done = false;
    pcclResult_t result;

    /* Aborted counts as done, until there is nothing left to ask. */
    while ((result = pcclTestAsyncReduce(&caller->handle, &done)) == pcclSuccess)
        ;
    CHECK(result == pcclInvalidArgument);
    return NULL;
}

static void *reduces(void *argument)
{
    struct caller *caller = argument;
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 2);
    int32_t one = 1;
    MEANWHILE(pcclAllReduce(&one, &one, &sum, caller->comm, NULL));
    CHECK(one == 1);
    return NULL;
}

static void *reduces_a_list(void *argument)
{
    struct caller *caller = argument;
    pcclReduceOpDescriptor_t list;
    int32_t one = 1;

    list.sendbuf = list.recvbuf = &one;
    list.descriptor = operation(1, pcclInt32, pcclSum, 3);
    /* An abort is no reason to go on with it. */
    MEANWHILE(pcclAllReduceMultipleWithRetry(&list, 1, caller->comm, NULL, 1));
    CHECK(one == 1);
    return NULL;
}

static void *updates(void *argument)
{
    struct caller *caller = argument;
    MEANWHILE(pcclUpdateTopology(caller->comm));
    return NULL;
}

static void *synchronizes(void *argument)
{
    struct caller *caller = argument;
    pcclTensorInfo_t tensor = {"weight", NULL, 1, pcclFloat, pcclDeviceCpu, false};
    pcclSharedState_t state = {1, 1, NULL};
    float weight = 1;

    tensor.data = &weight;
    state.infos = &tensor;
    MEANWHILE(pcclSynchronizeSharedState(caller->comm, &state, popular, NULL));
    return NULL;
}

/* Whether the thread has begun its call does not matter: it ends the same. */
static void ended_by_another(void *(*body)(void *))
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    struct pair peers = pair();
    struct caller caller;
    int32_t one = 1;

    caller.comm = peers.first;
    if (body == awaits || body == awaits_for_long || body == polls)
        OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &caller.handle));
    CHECK(pthread_create(&caller.thread, NULL, body, &caller) == 0);
    OK(pcclDestroyCommunicator(peers.first));
    CHECK(one == 1);
    CHECK(pthread_join(caller.thread, NULL) == 0);
    OK(pcclDestroyCommunicator(peers.second));
    end_master(peers.master);
}

static void *joins(void *argument)
{
    struct caller *caller = argument;
    MEANWHILE(pcclConnect(caller->comm));
    return NULL;
}

/* Nobody lets it in. */
static void ended_while_it_waits_to_be_let_in(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pcclComm_t *first = communicator(address);
    struct caller caller;
    bool pending = false;

    OK(pcclConnect(first));
    caller.comm = communicator(address);
    CHECK(pthread_create(&caller.thread, NULL, joins, &caller) == 0);
    while (!pending)
        OK(pcclArePeersPending(first, &pending));
    OK(pcclDestroyCommunicator(caller.comm));
    CHECK(pthread_join(caller.thread, NULL) == 0);
    OK(pcclDestroyCommunicator(first));
    end_master(master);
}

static void *sees_the_end(void *argument)
{
    struct caller *caller = argument;
    pcclResult_t result = pcclMasterAwaitTermination(caller->master);
    CHECK(result == pcclSuccess || result == pcclInvalidArgument);
    return NULL;
}

static void master_ended_by_another(void)
{
    ccoip_socket_address_t address;
    struct caller caller;

    caller.master = running_master(&address);
    CHECK(pthread_create(&caller.thread, NULL, sees_the_end, &caller) == 0);
    OK(pcclDestroyMaster(caller.master));
    CHECK(pthread_join(caller.thread, NULL) == 0);
}

static void *destroys(void *argument)
{
    pcclComm_t *comm = argument;
    return pcclDestroyCommunicator(comm) == pcclSuccess ? argument : NULL;
}

/* Of several threads that destroy a handle one does. */
static void ended_by_several(void)
{
    struct pair peers = pair();
    pthread_t threads[4];
    int i, ends = 0;

    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, destroys, peers.first) == 0);
    for (i = 0; i < 4; i++) {
        void *ended = NULL;
        CHECK(pthread_join(threads[i], &ended) == 0);
        ends += ended != NULL;
    }
    CHECK(ends == 1);
    OK(pcclDestroyCommunicator(peers.second));
    end_master(peers.master);
}

/* A handle says a communicator and a tag, no more: one that was awaited stands for whatever has its tag now. */
static void same_tag_again(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    pcclAsyncReduceOp_t old, present;
    int32_t one = 1, two = 2;

    OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &old));
    OK(pcclAwaitAsyncReduce(&old, NULL));
    FAILS(pcclAwaitAsyncReduce(&old, NULL), pcclInvalidArgument, "not in flight");
    OK(pcclAllReduceAsync(&two, &two, &sum, peer->comm, &present));
    CHECK(memcmp(&old, &present, sizeof old) == 0);
    OK(pcclAwaitAsyncReduce(&old, NULL));
    CHECK(one == 2 && two == 4);
    FAILS(pcclAwaitAsyncReduce(&present, NULL), pcclInvalidArgument, "not in flight");
}

int main(void)
{
    void *(*const bodies[])(void *) = {awaits, awaits_for_long, polls, reduces, reduces_a_list, updates, synchronizes};
    size_t i;

    hang_is_failure(100);
    OK(pcclInit());
    after_the_end();
    settings();
    other_kinds();
    for (i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        ended_by_another(bodies[i]);
    ended_while_it_waits_to_be_let_in();
    master_ended_by_another();
    ended_by_several();
    together(2, same_tag_again);
    puts("handles.c: what has ended stays so");
    return 0;
}

/* What happens to a program through no fault of its own: peers in calls that can never meet, a peer that goes in the middle of a list,
 * a master that goes for good. */
#include "harness.h"

#define LISTED 5
#define COUNT 3000

static void never_meet(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    int32_t one = 1;

    if (peer->index == 0)
        FAILS(pcclUpdateTopology(peer->comm), pcclInvalidUsage, "can never meet");
    else
        FAILS(pcclAllReduce(&one, &one, &sum, peer->comm, NULL), pcclInvalidUsage, "can never meet");
    CHECK(one == 1);
}

static void never_meet_in_phases(struct peer *peer)
{
    bool pending = false;

    if (peer->index == 0)
        FAILS(pcclOptimizeTopology(peer->comm), pcclInvalidUsage, "can never meet");
    else
        FAILS(pcclArePeersPending(peer->comm, &pending), pcclInvalidUsage, "can never meet");
}

/* A wait without end, whatever it is called. */
static void never_meet_in_an_endless_wait(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    pcclAsyncReduceOp_t handle;
    int32_t one = 1;

    if (peer->index == 0) {
        FAILS(pcclUpdateTopology(peer->comm), pcclInvalidUsage, "can never meet");
        return;
    }
    OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    FAILS(pcclAwaitAsyncReduceTimeout(&handle, UINT64_MAX, NULL), pcclInvalidUsage, "can never meet");
}

static void never_meet_in_an_await(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    pcclAsyncReduceOp_t handle;
    int32_t one = 1;

    if (peer->index == 0) {
        FAILS(pcclUpdateTopology(peer->comm), pcclInvalidUsage, "can never meet");
        return;
    }
    OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    FAILS(pcclAwaitAsyncReduce(&handle, NULL), pcclInvalidUsage, "can never meet");
}

static void polled(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    pcclAsyncReduceOp_t handle;
    int32_t one = 1;
    bool done = false;

    OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    while (!done)
        OK(pcclTestAsyncReduce(&handle, &done));
    OK(pcclTestAsyncReduce(&handle, &done));
    CHECK(done);
    OK(pcclAwaitAsyncReduce(&handle, NULL));
    CHECK(one == peer->peers);
}

/* The third takes part in the first two of a list, then goes; the others repeat what it breaks, and nothing is reduced twice. */
static void list_goes_on(struct peer *peer)
{
    int32_t *data = malloc(LISTED * COUNT * sizeof *data);
    pcclReduceOpDescriptor_t list[LISTED];
    pcclReduceInfo_t info;
    int i, k;

    CHECK(data);
    for (i = 0; i < LISTED; i++) {
        for (k = 0; k < COUNT; k++)
            data[i * COUNT + k] = i + k + peer->index;
        list[i].sendbuf = list[i].recvbuf = &data[i * COUNT];
        list[i].descriptor = operation(COUNT, pcclInt32, pcclSum, (uint64_t)i);
    }
    OK(pcclAllReduceMultipleWithRetry(list, peer->index == 2 ? 2 : LISTED, peer->comm, &info, 1));
    CHECK(info.local_world_size == (peer->index == 2 ? 3 : 2));
    for (i = 0; i < (peer->index == 2 ? 2 : LISTED); i++) {
        int peers = i < 2 ? 3 : 2;
        for (k = 0; k < COUNT; k++)
            CHECK(data[i * COUNT + k] == peers * (i + k) + peers * (peers - 1) / 2);
    }
    free(data);
}

/* Each in turn: it waits for the other until the master is given up. */
static void without_master(void)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pcclCommCreateParams_t params = params_of(address, 0);
    pcclSharedState_t state = {0, 0, NULL};
    pcclAsyncReduceOp_t first, second;
    pcclReduceOpDescriptor_t list;
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;
    int32_t one = 1, two = 2;
    bool pending = false;

    OK(pcclConfigCreate(&config));
    OK(pcclConfigSet(config, "reconnect_timeout_ms", "200"));
    OK(pcclCreateCommunicatorWithConfig(&params, config, &comm));
    OK(pcclConfigDestroy(config));
    OK(pcclConnect(comm));
    end_master(master);
    FAILS(pcclUpdateTopology(comm), pcclMasterConnectionFailed, "lost the master");
    /* It stays so, until it connects again. */
    FAILS(pcclArePeersPending(comm, &pending), pcclMasterConnectionFailed, "lost the master");
    FAILS(pcclOptimizeTopology(comm), pcclMasterConnectionFailed, "lost the master");
    FAILS(pcclAllReduce(&one, &one, &sum, comm, NULL), pcclMasterConnectionFailed, "lost the master");
    FAILS(pcclAllReduceWithFeedback(&one, &one, NULL, &sum, comm, NULL), pcclMasterConnectionFailed, "lost the master");
    OK(pcclAllReduceAsync(&one, &one, &sum, comm, &first));
    FAILS(pcclAwaitAsyncReduce(&first, NULL), pcclMasterConnectionFailed, "lost the master");
    OK(pcclAllReduceAsync(&two, &two, &sum, comm, &second));
    FAILS(pcclAwaitAsyncReduceTimeout(&second, 60000, NULL), pcclMasterConnectionFailed, "lost the master");
    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    FAILS(pcclAllReduceMultipleWithRetry(&list, 1, comm, NULL, 1), pcclMasterConnectionFailed, "lost the master");
    FAILS(pcclAllReduceMultipleWithRetryAndFeedback(&list, NULL, 1, comm, NULL, 1), pcclMasterConnectionFailed,
          "lost the master");
    FAILS(pcclSynchronizeSharedState(comm, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, NULL),
          pcclMasterConnectionFailed, "lost the master");
    CHECK(one == 1 && two == 2);
    OK(pcclDestroyCommunicator(comm));
}

/* Operations are under way when the master goes, and with it all that could end them. */
static void without_master_in_the_middle(void)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1), max = operation(1, pcclInt32, pcclMax, 2);
    pcclAsyncReduceOp_t first, second;
    struct pair peers;
    int32_t one = 1, two = 2;

    CHECK(setenv("PCCL_RECONNECT_TIMEOUT_MS", "200", 1) == 0);
    peers = pair();
    CHECK(unsetenv("PCCL_RECONNECT_TIMEOUT_MS") == 0);
    OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &first));
    OK(pcclAllReduceAsync(&two, &two, &max, peers.first, &second));
    end_master(peers.master);
    FAILS(pcclAwaitAsyncReduce(&first, NULL), pcclMasterConnectionFailed, "lost the master");
    FAILS(pcclAwaitAsyncReduceTimeout(&second, 60000, NULL), pcclMasterConnectionFailed, "lost the master");
    CHECK(one == 1 && two == 2);
    OK(pcclDestroyCommunicator(peers.first));
    OK(pcclDestroyCommunicator(peers.second));
}

int main(void)
{
    hang_is_failure(100);
    OK(pcclInit());
    together(2, never_meet);
    together(2, never_meet_in_phases);
    together(2, never_meet_in_an_endless_wait);
    together(2, never_meet_in_an_await);
    together(3, polled);
    together(3, list_goes_on);
    without_master();
    without_master_in_the_middle();
    puts("mishaps.c: each has its code");
    return 0;
}

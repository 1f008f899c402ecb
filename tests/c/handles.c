/* Handles after their end: whatever is called with one that was destroyed, by whatever thread, has a code, and what waits with one
 * that is destroyed just now comes back. Handles of operations that were awaited are among them. */
#include "callers.h"
#include "every_call.h"

static const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;

#define GONE(call) FAILS(call, pcclInvalidArgument, "destroyed, or never made")

static void is_gone(const char *call, pcclResult_t result)
{
    if (result != pcclInvalidArgument)
        fail(__FILE__, __LINE__, call);
    says(__FILE__, __LINE__, "destroyed, or never made");
}

static void all_refuse(pcclComm_t *comm, const pcclAsyncReduceOp_t *handle)
{
    every_call(comm, handle, is_gone);
    GONE(pcclDestroyCommunicator(comm));
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

/* What threads do while their communicator, or their master, is destroyed by another one. */

static pcclResult_t awaits(struct caller *caller)
{
    return pcclAwaitAsyncReduce(&caller->handle, NULL);
}

static pcclResult_t awaits_for_long(struct caller *caller)
{
    return pcclAwaitAsyncReduceTimeout(&caller->handle, 1000 * 1000, NULL);
}

static pcclResult_t reduces(struct caller *caller)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 2);
    int32_t one = 1;
    pcclResult_t result = pcclAllReduce(&one, &one, &sum, caller->comm, NULL);

    CHECK(one == 1);
    return result;
}

/* An abort would be no reason to go on with it. */
static pcclResult_t reduces_a_list(struct caller *caller)
{
    pcclReduceOpDescriptor_t list;
    pcclResult_t result;
    int32_t one = 1;

    list.sendbuf = list.recvbuf = &one;
    list.descriptor = operation(1, pcclInt32, pcclSum, 3);
    result = pcclAllReduceMultipleWithRetry(&list, 1, caller->comm, NULL, 1);
    CHECK(one == 1);
    return result;
}

static pcclResult_t updates(struct caller *caller)
{
    return pcclUpdateTopology(caller->comm);
}

static pcclResult_t asks_who_waits(struct caller *caller)
{
    bool pending = false;
    return pcclArePeersPending(caller->comm, &pending);
}

static pcclResult_t optimizes(struct caller *caller)
{
    return pcclOptimizeTopology(caller->comm);
}

static pcclResult_t synchronizes(struct caller *caller)
{
    pcclTensorInfo_t tensor = {"weight", NULL, 1, pcclFloat, pcclDeviceCpu, false};
    pcclSharedState_t state = {1, 1, NULL};
    pcclResult_t result;
    float weight = 1;

    tensor.data = &weight;
    state.infos = &tensor;
    result = pcclSynchronizeSharedState(caller->comm, &state, popular, NULL);
    CHECK(weight == 1 && state.revision == 1);
    return result;
}

static bool was_in_it(const struct caller *caller)
{
    CHECK(caller->result == pcclInvalidArgument);
    return strstr(caller->words, "destroyed while this call was under way") != NULL;
}

static void end_second(struct pair *peers)
{
    OK(pcclDestroyCommunicator(peers->second));
    end_master(peers->master);
}

/* A call that the other peer does not make. */
static void ended_in_a_call(pcclResult_t (*call)(struct caller *), pcclResult_t refusal)
{
    struct pair peers = pair();
    struct callers callers;

    call_twice(&callers, peers.first, call);
    OK(pcclDestroyCommunicator(peers.first));
    CHECK(was_in_it(who_was_in_it(&callers, refusal)));
    end_second(&peers);
}

/* Of a wait nothing tells but its sleep, so again until one was under way: what comes later, or not at all, ends the same. */
static void ended_in_a_wait(pcclResult_t (*wait)(struct caller *))
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    bool seen = false;

    while (!seen) {
        struct pair peers = pair();
        struct callers callers;
        struct caller what;
        int32_t one = 1;

        memset(&what, 0, sizeof what);
        what.call = wait;
        OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &what.handle));
        call_once(&callers, what);
        OK(pcclDestroyCommunicator(peers.first));
        CHECK(one == 1);
        join_callers(&callers, 1);
        seen = was_in_it(&callers.each[0]);
        end_second(&peers);
    }
}

struct poller {
    pcclAsyncReduceOp_t handle;
    pthread_barrier_t has_begun;
};

static void *polls(void *argument)
{
    struct poller *poller = argument;
    pcclResult_t result;
    bool done = true;

    OK(pcclTestAsyncReduce(&poller->handle, &done));
    CHECK(!done);
    pthread_barrier_wait(&poller->has_begun);
    /* Aborted counts as done, until there is nothing left to ask. */
    do
        result = pcclTestAsyncReduce(&poller->handle, &done);
    while (result == pcclSuccess);
    CHECK(result == pcclInvalidArgument);
    return NULL;
}

static void ended_between_polls(void)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    struct pair peers = pair();
    struct poller poller;
    pthread_t thread;
    int32_t one = 1;

    OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &poller.handle));
    CHECK(pthread_barrier_init(&poller.has_begun, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, polls, &poller) == 0);
    pthread_barrier_wait(&poller.has_begun);
    OK(pcclDestroyCommunicator(peers.first));
    CHECK(pthread_join(thread, NULL) == 0 && one == 1);
    CHECK(pthread_barrier_destroy(&poller.has_begun) == 0);
    end_second(&peers);
}

static pcclResult_t joins(struct caller *caller)
{
    return pcclConnect(caller->comm);
}

/* Nobody lets it in. */
static void ended_while_it_waits_to_be_let_in(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pcclComm_t *first = communicator(address);
    struct callers callers;
    struct caller what;
    bool pending = false;

    OK(pcclConnect(first));
    memset(&what, 0, sizeof what);
    what.comm = communicator(address);
    what.call = joins;
    start_callers(&callers, 1, what);
    while (!pending)
        OK(pcclArePeersPending(first, &pending));
    OK(pcclDestroyCommunicator(what.comm));
    join_callers(&callers, 1);
    CHECK(was_in_it(&callers.each[0]));
    OK(pcclDestroyCommunicator(first));
    end_master(master);
}

static pcclResult_t sees_the_end(struct caller *caller)
{
    return pcclMasterAwaitTermination(caller->master);
}

/* Who waits for it has its end, and no error; who comes later has none to wait for. */
static void master_ended_by_another(void)
{
    bool seen = false;

    while (!seen) {
        ccoip_socket_address_t address;
        struct callers callers;
        struct caller what;

        memset(&what, 0, sizeof what);
        what.master = running_master(&address);
        what.call = sees_the_end;
        call_once(&callers, what);
        OK(pcclDestroyMaster(what.master));
        join_callers(&callers, 1);
        seen = callers.each[0].result == pcclSuccess;
        CHECK(seen || callers.each[0].result == pcclInvalidArgument);
    }
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
    hang_is_failure(100);
    OK(pcclInit());
    after_the_end();
    settings();
    other_kinds();
    ended_in_a_call(reduces, pcclInvalidArgument);
    ended_in_a_call(reduces_a_list, pcclInvalidArgument);
    ended_in_a_call(updates, pcclInvalidUsage);
    ended_in_a_call(asks_who_waits, pcclInvalidUsage);
    ended_in_a_call(optimizes, pcclInvalidUsage);
    ended_in_a_call(synchronizes, pcclInvalidUsage);
    ended_in_a_wait(awaits);
    ended_in_a_wait(awaits_for_long);
    ended_between_polls();
    ended_while_it_waits_to_be_let_in();
    master_ended_by_another();
    ended_by_several();
    together(2, same_tag_again);
    puts("handles.c: what has ended stays so");
    return 0;
}

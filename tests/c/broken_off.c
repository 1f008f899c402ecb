/* Calls that break off in the middle, as the only other peer goes while they are under way; and those it went before. */
#include "harness.h"

#include <semaphore.h>

#define CALLERS 2
#define GO 9

static const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;

static void end_pair(struct pair *pair)
{
    OK(pcclDestroyCommunicator(pair->first));
    end_master(pair->master);
}

static pcclReduceDescriptor_t quantized_sum(uint64_t tag)
{
    pcclReduceDescriptor_t descriptor = operation(4, pcclFloat, pcclSum, tag);
    descriptor.quantization_options.algorithm = pcclQuantBits4;
    return descriptor;
}

/* One of those that make the same call at once. */
struct caller {
    pthread_t thread;
    pcclComm_t *comm;
    sem_t *one_is_refused;
    void (*call)(struct caller *);
    bool was_broken_off;
};

static void *run_caller(void *argument)
{
    struct caller *caller = argument;
    caller->call(caller);
    return NULL;
}

/* Only one of them is under way, and the refusal of the other tells so. */
static void call_twice(struct caller *callers, pcclComm_t *comm, sem_t *one_is_refused, void (*call)(struct caller *))
{
    int i;

    CHECK(sem_init(one_is_refused, 0, 0) == 0);
    for (i = 0; i < CALLERS; i++) {
        callers[i].comm = comm;
        callers[i].one_is_refused = one_is_refused;
        callers[i].call = call;
        callers[i].was_broken_off = true;
        CHECK(pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]) == 0);
    }
    CHECK(sem_wait(one_is_refused) == 0);
}

static void one_was_broken_off(struct caller *callers, sem_t *one_is_refused)
{
    int i;

    for (i = 0; i < CALLERS; i++)
        CHECK(pthread_join(callers[i].thread, NULL) == 0);
    CHECK(callers[0].was_broken_off != callers[1].was_broken_off);
    CHECK(sem_destroy(one_is_refused) == 0);
}

static void refused(struct caller *caller)
{
    caller->was_broken_off = false;
    CHECK(sem_post(caller->one_is_refused) == 0);
}

static void reduces(struct caller *caller)
{
    const pcclReduceDescriptor_t sum = operation(4, pcclFloat, pcclSum, 1);
    float data[4] = {1, 2, 3, 4};
    pcclResult_t result = pcclAllReduce(data, data, &sum, caller->comm, NULL);

    if (result == pcclInvalidArgument)
        refused(caller);
    else
        RETURNED(pcclAllReduce, result, pcclRankConnectionLost);
    CHECK(data[0] == 1 && data[3] == 4);
}

static void reduces_with_feedback(struct caller *caller)
{
    const pcclReduceDescriptor_t sum = quantized_sum(1);
    float data[4] = {1, 2, 3, 4}, residual[4] = {5, 6, 7, 8};
    pcclResult_t result = pcclAllReduceWithFeedback(data, data, residual, &sum, caller->comm, NULL);

    if (result == pcclInvalidArgument)
        refused(caller);
    else
        RETURNED(pcclAllReduceWithFeedback, result, pcclRankConnectionLost);
    CHECK(data[0] == 1 && data[3] == 4 && residual[0] == 5 && residual[3] == 8);
}

static void optimizes(struct caller *caller)
{
    pcclResult_t result = pcclOptimizeTopology(caller->comm);

    if (result == pcclInvalidUsage)
        refused(caller);
    else
        RETURNED(pcclOptimizeTopology, result, pcclTopologyOptimizationFailed);
}

static void *goes_on(void *comm)
{
    const pcclReduceDescriptor_t go = operation(1, pcclInt32, pcclSum, GO);
    int32_t one = 1;
    OK(pcclAllReduce(&one, &one, &go, comm, NULL));
    return NULL;
}

/* An operation of both: after it the master knows of what each has begun before. */
static void both_go_on(struct pair *peers)
{
    pthread_t other;

    CHECK(pthread_create(&other, NULL, goes_on, peers->second) == 0);
    goes_on(peers->first);
    CHECK(pthread_join(other, NULL) == 0);
}

static void broken_off(void (*call)(struct caller *))
{
    struct pair peers = pair();
    struct caller callers[CALLERS];
    sem_t one_is_refused;

    call_twice(callers, peers.first, &one_is_refused, call);
    /* During a phase there are no operations. */
    if (call != optimizes)
        both_go_on(&peers);
    OK(pcclDestroyCommunicator(peers.second));
    one_was_broken_off(callers, &one_is_refused);
    /* It is a member still, alone. */
    OK(pcclUpdateTopology(peers.first));
    end_pair(&peers);
}

static void *synchronizes(void *comm)
{
    pcclTensorInfo_t tensor = {"weight", NULL, 1, pcclFloat, pcclDeviceCpu, false};
    pcclSharedState_t state = {1, 1, NULL};
    float weight = 1;
    pcclResult_t result;

    tensor.data = &weight;
    state.infos = &tensor;
    do
        result = pcclSynchronizeSharedState(comm, &state, popular, NULL);
    while (result == pcclPendingAsyncOps);
    RETURNED(pcclSynchronizeSharedState, result, pcclRankConnectionLost);
    CHECK(state.revision == 1 && weight == 1);
    return NULL;
}

/* Polls, as of a wait the others could learn that it is in vain. */
static void *goes_on_until_its_end(void *comm)
{
    const pcclReduceDescriptor_t go = operation(1, pcclInt32, pcclSum, GO);
    pcclAsyncReduceOp_t handle;
    /* The library's until the communicator's destruction has returned, which this thread does not see. */
    static int32_t one = 1;
    pcclResult_t result;

    do {
        bool done = false;
        result = pcclAllReduceAsync(&one, &one, &go, comm, &handle);
        while (result == pcclSuccess && !done)
            result = pcclTestAsyncReduce(&handle, &done);
        if (result == pcclSuccess)
            result = pcclAwaitAsyncReduce(&handle, NULL);
    } while (result == pcclSuccess);
    CHECK(result == pcclInvalidArgument);
    return NULL;
}

/* Operations go on until the synchronization has begun, which refuses them; the other peer is in one when it goes. */
static void synchronization_broken_off(void)
{
    const pcclReduceDescriptor_t go = operation(1, pcclInt32, pcclSum, GO);
    struct pair peers = pair();
    pthread_t synchronizing, other;
    pcclResult_t result;
    int32_t one = 1;

    CHECK(pthread_create(&synchronizing, NULL, synchronizes, peers.first) == 0);
    CHECK(pthread_create(&other, NULL, goes_on_until_its_end, peers.second) == 0);
    do
        result = pcclAllReduce(&one, &one, &go, peers.first, NULL);
    while (result == pcclSuccess);
    CHECK(result == pcclInvalidUsage);
    OK(pcclDestroyCommunicator(peers.second));
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(pthread_join(synchronizing, NULL) == 0);
    end_pair(&peers);
}

/* What is started when the other has left, and before this peer has heard of it, is told by the await. */
static void begun_too_late(void)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    struct pair peers = pair();
    pcclAsyncReduceOp_t handle;
    int32_t one = 1;

    OK(pcclDestroyCommunicator(peers.second));
    OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &handle));
    CHECK(pcclAwaitAsyncReduce(&handle, NULL) == pcclTooFewPeers);
    CHECK(one == 1);
    end_pair(&peers);

    peers = pair();
    OK(pcclDestroyCommunicator(peers.second));
    OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &handle));
    CHECK(pcclAwaitAsyncReduceTimeout(&handle, 60000, NULL) == pcclTooFewPeers);
    CHECK(one == 1);
    end_pair(&peers);
}

int main(void)
{
    hang_is_failure(100);
    OK(pcclInit());
    broken_off(reduces);
    broken_off(reduces_with_feedback);
    broken_off(optimizes);
    synchronization_broken_off();
    begun_too_late();
    puts("broken_off.c: what breaks off has its code, and its input");
    return 0;
}

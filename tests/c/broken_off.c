/* Calls that break off in the middle, as the only other peer goes while they are under way; and those it went before. */
#include "callers.h"

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

static pcclResult_t reduces(struct caller *caller)
{
    const pcclReduceDescriptor_t sum = operation(4, pcclFloat, pcclSum, 1);
    float data[4] = {1, 2, 3, 4};
    pcclResult_t result = pcclAllReduce(data, data, &sum, caller->comm, NULL);

    CHECK(data[0] == 1 && data[3] == 4);
    return result;
}

static pcclResult_t reduces_with_feedback(struct caller *caller)
{
    const pcclReduceDescriptor_t sum = quantized_sum(1);
    float data[4] = {1, 2, 3, 4}, residual[4] = {5, 6, 7, 8};
    pcclResult_t result = pcclAllReduceWithFeedback(data, data, residual, &sum, caller->comm, NULL);

    CHECK(data[0] == 1 && data[3] == 4 && residual[0] == 5 && residual[3] == 8);
    return result;
}

static pcclResult_t optimizes(struct caller *caller)
{
    return pcclOptimizeTopology(caller->comm);
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

/* The result of a call that is under way when the other peer goes. */
static pcclResult_t broken_off(pcclResult_t (*call)(struct caller *), pcclResult_t refusal)
{
    struct pair peers = pair();
    struct callers callers;
    pcclResult_t result;

    call_twice(&callers, peers.first, call);
    /* During a phase there are no operations. */
    if (call != optimizes)
        both_go_on(&peers);
    OK(pcclDestroyCommunicator(peers.second));
    result = who_was_in_it(&callers, refusal)->result;
    /* It is a member still, alone. */
    OK(pcclUpdateTopology(peers.first));
    end_pair(&peers);
    return result;
}

static void calls_broken_off(void)
{
    pcclResult_t result = broken_off(reduces, pcclInvalidArgument);

    RETURNED(pcclAllReduce, result, pcclRankConnectionLost);
    result = broken_off(reduces_with_feedback, pcclInvalidArgument);
    RETURNED(pcclAllReduceWithFeedback, result, pcclRankConnectionLost);
    result = broken_off(optimizes, pcclInvalidUsage);
    RETURNED(pcclOptimizeTopology, result, pcclTopologyOptimizationFailed);
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

static pcclResult_t waits(const pcclAsyncReduceOp_t *handle)
{
    return pcclAwaitAsyncReduce(handle, NULL);
}

static pcclResult_t waits_for_a_time(const pcclAsyncReduceOp_t *handle)
{
    return pcclAwaitAsyncReduceTimeout(handle, 60000, NULL);
}

/* What is started when the other has left, and before this peer has heard of it, is told by the await: that nobody else is left, or
 * that it was aborted, where the master reads of the beginning before it reads of the leaving. Again until it is the first. */
static pcclResult_t begun_too_late(pcclResult_t (*wait)(const pcclAsyncReduceOp_t *))
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    pcclResult_t result;

    do {
        struct pair peers = pair();
        pcclAsyncReduceOp_t handle;
        int32_t one = 1;

        OK(pcclDestroyCommunicator(peers.second));
        OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &handle));
        result = wait(&handle);
        CHECK(one == 1);
        end_pair(&peers);
    } while (result == pcclRankConnectionLost);
    return result;
}

static void begun_when_nobody_was_left(void)
{
    pcclResult_t result = begun_too_late(waits);

    RETURNED(pcclAwaitAsyncReduce, result, pcclTooFewPeers);
    result = begun_too_late(waits_for_a_time);
    RETURNED(pcclAwaitAsyncReduceTimeout, result, pcclTooFewPeers);
}

int main(void)
{
    hang_is_failure(100);
    OK(pcclInit());
    calls_broken_off();
    synchronization_broken_off();
    begun_when_nobody_was_left();
    puts("broken_off.c: what breaks off has its code, and its input");
    return 0;
}

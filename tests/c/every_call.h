/* Every call on a communicator, and on an operation of it, but its destruction: for handles that none may take. */
#ifndef EVERY_CALL_H
#define EVERY_CALL_H

#include "harness.h"

#define REFUSED(call) refused(#call, call)

/* `refused` gets each call and its result; nothing is to be read or written by any of them. */
static inline void every_call(pcclComm_t *comm, const pcclAsyncReduceOp_t *handle, void (*refused)(const char *, pcclResult_t))
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
    REFUSED(pcclConnect(comm));
    REFUSED(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size));
    REFUSED(pcclUpdateTopology(comm));
    REFUSED(pcclArePeersPending(comm, &flag));
    REFUSED(pcclOptimizeTopology(comm));
    REFUSED(pcclAllReduce(&one, &one, &sum, comm, NULL));
    REFUSED(pcclAllReduceAsync(&one, &one, &sum, comm, &other));
    REFUSED(pcclAllReduceWithFeedback(&one, &one, NULL, &sum, comm, NULL));
    REFUSED(pcclAllReduceWithFeedbackAsync(&one, &one, NULL, &sum, comm, &other));
    REFUSED(pcclAllReduceMultipleWithRetry(&list, 1, comm, NULL, 1));
    REFUSED(pcclAllReduceMultipleWithRetryAndFeedback(&list, NULL, 1, comm, NULL, 1));
    REFUSED(pcclAwaitAsyncReduce(handle, NULL));
    REFUSED(pcclAwaitAsyncReduceTimeout(handle, 1000, NULL));
    REFUSED(pcclTestAsyncReduce(handle, &flag));
    REFUSED(pcclSynchronizeSharedState(comm, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, NULL));
    REFUSED(pcclGetStats(comm, &stats));
    CHECK(one == 1 && size == 0 && !flag);
}

#endif /* EVERY_CALL_H */

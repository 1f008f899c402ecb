/* Error feedback: what quantization loses in one call the next ones make good; an abort leaves the residual as it was. */
#include "harness.h"

#define ROUNDS 48
#define LISTED 3

static size_t count = 9000;

/* Most of it small beside the largest number of its block: what 4 bits are too coarse for. */
static float given(int peer, size_t at)
{
    return at % 500 == (size_t)peer ? 20.0f : (float)((at * 7919 + (size_t)peer * 7) % 1000) / 1000 - 0.5f;
}

static float exact(int peers, size_t at)
{
    float sum = 0;
    int peer;

    for (peer = 0; peer < peers; peer++)
        sum += given(peer, at);
    return sum;
}

static void *floats(size_t length)
{
    void *zeros = calloc(length, sizeof(float));
    CHECK(zeros != NULL);
    return zeros;
}

static void give(float *data, const struct peer *peer)
{
    size_t at;
    for (at = 0; at < count; at++)
        data[at] = given(peer->index, at);
}

static pcclReduceDescriptor_t to_4_bits(size_t length, pcclRedOp_t op, uint64_t tag)
{
    pcclReduceDescriptor_t descriptor = operation(length, pcclFloat, op, tag);
    descriptor.quantization_options.algorithm = pcclQuantBits4;
    return descriptor;
}

/* Each way to reduce once: blocking in place, blocking out of place, asynchronously, in a list. `residual` may be NULL. */
static void reduce_once(struct peer *peer, int way, float *data, float *residual)
{
    const pcclReduceDescriptor_t sum = to_4_bits(count, pcclSum, 1);
    pcclReduceOpDescriptor_t one = {NULL, NULL, {0, pcclSum, 0, {pcclFloat, pcclDistributionNone}, {pcclUint8, pcclQuantNone}}};
    pcclAsyncReduceOp_t handle;
    void *residuals[1];
    float *send;

    switch (way) {
    case 0:
        OK(pcclAllReduceWithFeedback(data, data, residual, &sum, peer->comm, NULL));
        return;
    case 1:
        send = floats(count);
        memcpy(send, data, count * sizeof *send);
        OK(pcclAllReduceWithFeedback(send, data, residual, &sum, peer->comm, NULL));
        free(send);
        return;
    case 2:
        OK(pcclAllReduceWithFeedbackAsync(data, data, residual, &sum, peer->comm, &handle));
        CHECK(handle.comm == peer->comm && handle.tag == 1);
        OK(pcclAwaitAsyncReduce(&handle, NULL));
        return;
    default:
        one.sendbuf = one.recvbuf = data;
        one.descriptor = sum;
        residuals[0] = residual;
        OK(pcclAllReduceMultipleWithRetryAndFeedback(&one, residuals, 1, peer->comm, NULL, 1));
    }
}

/* How far the mean of many calls' results is from the true sum, at its worst. */
static float worst_of_means(struct peer *peer, int way, float *residual)
{
    float *data = floats(count), *sums = floats(count), worst = 0;
    size_t at;
    int round;

    for (round = 0; round < ROUNDS; round++) {
        give(data, peer);
        reduce_once(peer, way, data, residual);
        for (at = 0; at < count; at++)
            sums[at] += data[at];
    }
    for (at = 0; at < count; at++) {
        float off = sums[at] / ROUNDS - exact(peer->peers, at);
        off = off < 0 ? -off : off;
        worst = off > worst ? off : worst;
    }
    free(data);
    free(sums);
    return worst;
}

static void converges(struct peer *peer)
{
    int way;

    for (way = 0; way < 4; way++) {
        float *residual = floats(count);
        float with = worst_of_means(peer, way, residual), without = worst_of_means(peer, way, NULL);
        if (peer->index == 0)
            printf("feedback.c: the mean of %d sums is off by %g with feedback, by %g without\n", ROUNDS, (double)with,
                   (double)without);
        /* Steps are 20 / 15 and more; what is still owed in the end is a few of them, in all the rounds. */
        CHECK(with < 0.3f && without > 0.5f);
        free(residual);
    }
}

/* Some of a list with a residual, some without, one of them not quantized. */
static void lists(struct peer *peer)
{
    pcclReduceOpDescriptor_t list[LISTED];
    void *residuals[LISTED];
    float *data[LISTED], owed = 0;
    size_t at;
    int i;

    for (i = 0; i < LISTED; i++) {
        data[i] = floats(count);
        give(data[i], peer);
        list[i].sendbuf = list[i].recvbuf = data[i];
        list[i].descriptor = to_4_bits(count, pcclAvg, (uint64_t)i);
        residuals[i] = NULL;
    }
    list[2].descriptor.quantization_options.algorithm = pcclQuantNone;
    residuals[0] = floats(count);
    OK(pcclAllReduceMultipleWithRetryAndFeedback(list, residuals, LISTED, peer->comm, NULL, 2));
    for (at = 0; at < count; at++) {
        float error = data[2][at] - exact(peer->peers, at) / (float)peer->peers, lost = ((float *)residuals[0])[at];
        CHECK(error < 1e-5f && error > -1e-5f && data[0][at] == data[1][at]);
        owed += lost < 0 ? -lost : lost;
    }
    CHECK(owed > 0);
    OK(pcclAllReduceMultipleWithRetryAndFeedback(list, NULL, LISTED, peer->comm, NULL, 2));
    /* What is not quantized loses nothing. Nothing of the list was started. */
    residuals[2] = residuals[0];
    residuals[0] = NULL;
    memcpy(data[0], data[1], count * sizeof(float));
    FAILS(pcclAllReduceMultipleWithRetryAndFeedback(list, residuals, LISTED, peer->comm, NULL, 1), pcclInvalidArgument,
          "nothing is lost");
    CHECK(memcmp(data[0], data[1], count * sizeof(float)) == 0);
    CHECK(pcclAllReduceMultipleWithRetryAndFeedback(NULL, residuals, LISTED, peer->comm, NULL, 1) == pcclInvalidArgument);
    free(residuals[2]);
    for (i = 0; i < LISTED; i++)
        free(data[i]);
}

static void refused(struct peer *peer)
{
    pcclReduceDescriptor_t sum = to_4_bits(4, pcclSum, 1), whole = operation(4, pcclFloat, pcclSum, 1);
    pcclReduceDescriptor_t largest = to_4_bits(4, pcclMax, 1);
    pcclAsyncReduceOp_t handle;
    float data[8] = {1, 2, 3, 4, 0, 0, 0, 0};

    FAILS(pcclAllReduceWithFeedback(data, data, data + 2, &sum, peer->comm, NULL), pcclInvalidArgument, "memory of its own");
    FAILS(pcclAllReduceWithFeedback(data, data, data + 4, &whole, peer->comm, NULL), pcclInvalidArgument, "nothing is lost");
    FAILS(pcclAllReduceWithFeedback(data, data, data + 4, &largest, peer->comm, NULL), pcclInvalidArgument, "maximum");
    FAILS(pcclAllReduceWithFeedbackAsync(data, data, data + 4, &largest, peer->comm, &handle), pcclInvalidArgument, "maximum");
    CHECK(pcclAllReduceWithFeedback(data, data, data + 4, NULL, peer->comm, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduceWithFeedback(NULL, data, data + 4, &sum, peer->comm, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduceWithFeedbackAsync(data, data, data + 4, &sum, peer->comm, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduceWithFeedback(data, data, data + 4, &sum, NULL, NULL) == pcclInvalidArgument);
    CHECK(data[0] == 1 && data[3] == 4 && data[4] == 0);
}

/* Peer 1 leaves while the other waits for it. */
static void deserted(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = to_4_bits(count, pcclSum, 1), go = operation(1, pcclFloat, pcclSum, 2);
    float *data = floats(count), *residual = floats(count), *before = floats(count), ready = 1;
    pcclAsyncReduceOp_t handle;
    size_t at;

    give(data, peer);
    for (at = 0; at < count; at++)
        before[at] = residual[at] = data[at] / 64;
    if (peer->index == 0)
        OK(pcclAllReduceWithFeedbackAsync(data, data, residual, &sum, peer->comm, &handle));
    /* After it the master knows that the other has begun. */
    OK(pcclAllReduce(&ready, &ready, &go, peer->comm, NULL));
    if (peer->index == 0) {
        CHECK(pcclAwaitAsyncReduce(&handle, NULL) == pcclRankConnectionLost);
        CHECK(memcmp(residual, before, count * sizeof *before) == 0);
        CHECK(pcclAllReduceWithFeedback(data, data, residual, &sum, peer->comm, NULL) == pcclTooFewPeers);
        give(before, peer);
        CHECK(memcmp(data, before, count * sizeof *before) == 0);
    }
    free(data);
    free(residual);
    free(before);
}

int main(void)
{
    const pcclReduceDescriptor_t sum = to_4_bits(4, pcclSum, 1);
    float data[4] = {0}, residual[4] = {0};

    hang_is_failure(100);
    if (less_will_do())
        count = 1500;
    CHECK(pcclAllReduceWithFeedback(data, data, residual, &sum, NULL, NULL) == pcclNotInitialized);
    CHECK(pcclAllReduceWithFeedbackAsync(data, data, residual, &sum, NULL, NULL) == pcclNotInitialized);
    OK(pcclInit());
    together(2, converges);
    together(3, lists);
    together(2, refused);
    together(2, deserted);
    puts("feedback.c: everything as the header says");
    return 0;
}

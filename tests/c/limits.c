/* As much as there can be of something, and one more: operations in flight, and tags between two changes of membership. */
#include "harness.h"

#define IN_FLIGHT 4096
#define TAGS 65536
/* Started before the first of them is awaited. */
#define AHEAD 64

/* Nobody else joins them. */
static void operations_in_flight(void)
{
    struct pair peers = pair();
    static pcclAsyncReduceOp_t handles[IN_FLIGHT + 1];
    static int32_t data[IN_FLIGHT + 1];
    int32_t one = 1;
    pcclReduceDescriptor_t sum;
    int i;

    for (i = 0; i <= IN_FLIGHT; i++) {
        sum = operation(1, pcclInt32, pcclSum, (uint64_t)i);
        data[i] = i;
        OK(pcclAllReduceAsync(&data[i], &data[i], &sum, peers.first, &handles[i]));
    }
    FAILS(pcclAwaitAsyncReduce(&handles[IN_FLIGHT], NULL), pcclInvalidUsage, "4096 operations are in flight");
    sum.tag++;
    FAILS(pcclAllReduce(&one, &one, &sum, peers.first, NULL), pcclInvalidUsage, "4096 operations are in flight");
    FAILS(pcclAwaitAsyncReduceTimeout(&handles[0], 1, NULL), pcclTimeout, "it goes on");
    OK(pcclDestroyCommunicator(peers.first));
    for (i = 0; i <= IN_FLIGHT; i++)
        CHECK(data[i] == i);
    CHECK(one == 1);
    OK(pcclDestroyCommunicator(peers.second));
    end_master(peers.master);
}

static void tags(struct peer *peer)
{
    pcclAsyncReduceOp_t handles[AHEAD];
    int32_t data[AHEAD], one = 1;
    pcclReduceDescriptor_t sum;
    int i;

    for (i = 0; i < TAGS + AHEAD; i++) {
        int at = i % AHEAD;
        if (i >= AHEAD) {
            OK(pcclAwaitAsyncReduce(&handles[at], NULL));
            CHECK(data[at] == 2 * (i - AHEAD) + 1);
        }
        if (i < TAGS) {
            sum = operation(1, pcclInt32, pcclSum, (uint64_t)i);
            data[at] = i + peer->index;
            OK(pcclAllReduceAsync(&data[at], &data[at], &sum, peer->comm, &handles[at]));
        }
    }
    sum.tag = TAGS;
    FAILS(pcclAllReduce(&one, &one, &sum, peer->comm, NULL), pcclInvalidUsage, "65536 distinct tags");
    OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handles[0]));
    FAILS(pcclAwaitAsyncReduce(&handles[0], NULL), pcclInvalidUsage, "65536 distinct tags");
    CHECK(one == 1);
    /* Those that were used go on. */
    sum.tag = TAGS / 2;
    OK(pcclAllReduce(&one, &one, &sum, peer->comm, NULL));
    CHECK(one == 2);
}

int main(void)
{
    hang_is_failure(110);
    OK(pcclInit());
    operations_in_flight();
    /* Some hundred thousand messages: too many for tools that slow them down, and nothing that they would see. */
    if (slowness() == 1)
        together(2, tags);
    puts("limits.c: one more is refused in words");
    return 0;
}

/* Several threads: the library made ready, settings and masters in each of them, operations of one communicator started and awaited
 * side by side, last errors that do not get in each other's way, a handle and a master that several wait for, phase calls at once and
 * operations beside one. */
#include "callers.h"

#define THREADS 4
#define ROUNDS 20
#define COUNT 2000

struct worker {
    struct peer *peer;
    pthread_t thread;
    int index;
    pcclAsyncReduceOp_t handle;
    pcclResult_t result;
};

/* Each thread of a peer has a tag of its own, the same at all peers. */
static void *reduce(void *argument)
{
    struct worker *worker = argument;
    struct peer *peer = worker->peer;
    const pcclReduceDescriptor_t sum = operation(COUNT, pcclInt64, pcclSum, (uint64_t)(10 + worker->index));
    int64_t *data = malloc(COUNT * sizeof *data);
    int round, k;

    CHECK(data);
    for (round = 0; round < ROUNDS; round++) {
        for (k = 0; k < COUNT; k++)
            data[k] = (int64_t)k * round + worker->index;
        OK(pcclAllReduce(data, data, &sum, peer->comm, NULL));
        for (k = 0; k < COUNT; k++)
            CHECK(data[k] == peer->peers * ((int64_t)k * round + worker->index));
        /* Its own words, whatever fails in the other threads meanwhile. */
        if (worker->index % 2)
            FAILS(pcclAllReduce(NULL, data, &sum, peer->comm, NULL), pcclInvalidArgument, "pcclAllReduce:");
        else
            FAILS(pcclGetAttribute(peer->comm, (pcclAttribute_t)77, &k), pcclInvalidArgument, "77");
    }
    free(data);
    return NULL;
}

static void *await(void *argument)
{
    struct worker *worker = argument;
    worker->result = pcclAwaitAsyncReduce(&worker->handle, NULL);
    return NULL;
}

static void in_threads(struct worker *workers, struct peer *peer, void *(*body)(void *))
{
    int i;
    for (i = 0; i < THREADS; i++) {
        workers[i].peer = peer;
        workers[i].index = i;
        CHECK(pthread_create(&workers[i].thread, NULL, body, &workers[i]) == 0);
    }
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(workers[i].thread, NULL) == 0);
}

static void side_by_side(struct peer *peer)
{
    struct worker workers[THREADS];
    memset(workers, 0, sizeof workers);
    in_threads(workers, peer, reduce);
}

/* A handle is awaited once: of several threads one gets the outcome, the others learn that they are late. */
static void one_handle(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclUint32, pcclSum, 1);
    struct worker workers[THREADS];
    pcclAsyncReduceOp_t handle;
    uint32_t one = 1;
    int i, good = 0, late = 0;

    OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    memset(workers, 0, sizeof workers);
    for (i = 0; i < THREADS; i++)
        workers[i].handle = handle;
    in_threads(workers, peer, await);
    for (i = 0; i < THREADS; i++) {
        good += workers[i].result == pcclSuccess;
        late += workers[i].result == pcclInvalidArgument;
    }
    CHECK(good == 1 && late == THREADS - 1 && one == 2);
}

static pthread_barrier_t all_but_one_are_refused;

static void *update(void *argument)
{
    struct worker *worker = argument;

    worker->result = pcclUpdateTopology(worker->peer->comm);
    if (worker->result != pcclSuccess) {
        says(__FILE__, __LINE__, "in update_topology already");
        pthread_barrier_wait(&all_but_one_are_refused);
    }
    return NULL;
}

/* A communicator makes one phase call at a time. The one waits for the other peer, who comes when the others were refused. */
static void one_phase_call(struct peer *peer)
{
    struct worker workers[THREADS];
    int i, refused = 0;

    if (peer->index == 1) {
        pthread_barrier_wait(&all_but_one_are_refused);
        OK(pcclUpdateTopology(peer->comm));
        return;
    }
    memset(workers, 0, sizeof workers);
    in_threads(workers, peer, update);
    for (i = 0; i < THREADS; i++)
        refused += workers[i].result == pcclInvalidUsage;
    CHECK(refused == THREADS - 1);
}

static pcclResult_t updates(struct caller *caller)
{
    return pcclUpdateTopology(caller->comm);
}

/* While a thread is in a phase call the others start no operation; and it goes on. */
static void operations_beside_a_phase_call(void)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    struct pair peers = pair();
    struct callers callers;
    pcclAsyncReduceOp_t handle;
    int32_t one = 1;

    call_twice(&callers, peers.first, updates);
    FAILS(pcclAllReduce(&one, &one, &sum, peers.first, NULL), pcclInvalidUsage, "in update_topology");
    OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &handle));
    FAILS(pcclAwaitAsyncReduce(&handle, NULL), pcclInvalidUsage, "in update_topology");
    OK(pcclAllReduceAsync(&one, &one, &sum, peers.first, &handle));
    FAILS(pcclAwaitAsyncReduceTimeout(&handle, 60000, NULL), pcclInvalidUsage, "in update_topology");
    CHECK(one == 1);
    OK(pcclUpdateTopology(peers.second));
    CHECK(who_was_in_it(&callers, pcclInvalidUsage)->result == pcclSuccess);
    OK(pcclDestroyCommunicator(peers.first));
    OK(pcclDestroyCommunicator(peers.second));
    end_master(peers.master);
}

static pcclMasterInstance_t *awaited;

/* Before anything else: whoever comes first makes the library ready. */
static void *begin(void *argument)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *own;
    pcclConfig_t *config = NULL;

    OK(pcclInit());
    own = running_master(&address);
    OK(pcclConfigCreate(&config));
    OK(pcclConfigSet(config, "pool", "3"));
    OK(pcclConfigDestroy(config));
    end_master(own);
    OK(pcclMasterAwaitTermination(awaited));
    return argument;
}

static void from_the_beginning(void)
{
    pthread_t threads[THREADS];
    ccoip_socket_address_t address;
    int i;

    awaited = running_master(&address);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, begin, NULL) == 0);
    OK(pcclInterruptMaster(awaited));
    OK(pcclMasterAwaitTermination(awaited));
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    OK(pcclDestroyMaster(awaited));
}

int main(void)
{
    hang_is_failure(100);
    from_the_beginning();
    OK(pcclInit());
    together(3, side_by_side);
    together(2, one_handle);
    CHECK(pthread_barrier_init(&all_but_one_are_refused, NULL, THREADS) == 0);
    together(2, one_phase_call);
    operations_beside_a_phase_call();
    puts("threads.c: side by side");
    return 0;
}

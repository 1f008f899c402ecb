/* Where a process or a thread ends, and where a process doubles: handles in exit handlers, and in a forked child. */
#include "harness.h"

#include <signal.h>
#include <sys/wait.h>

/* In a handler the way out is the short one: exit would come back to it. */
#define MUST(condition) ((condition) ? (void)0 : give_up(__LINE__, #condition))

static void give_up(int line, const char *what)
{
    char words[512] = "";
    pcclGetLastError(words, sizeof words);
    fprintf(stderr, "processes.c:%d: %s (last error: %s)\n", line, what, words);
    _exit(1);
}

static pcclComm_t *left_comm;
static pcclMasterInstance_t *left_master;

static void tidy_up(void)
{
    int size = 0;

    MUST(pcclUpdateTopology(left_comm) == pcclSuccess);
    MUST(pcclGetAttribute(left_comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size) == pcclSuccess && size == 1);
    MUST(pcclDestroyCommunicator(left_comm) == pcclSuccess);
    MUST(pcclInterruptMaster(left_master) == pcclSuccess);
    MUST(pcclMasterAwaitTermination(left_master) == pcclSuccess);
    MUST(pcclDestroyMaster(left_master) == pcclSuccess);
}

/* As a destructor of a global object in C++: the thread that ran main has no more names for itself then. */
static void destroyed_at_exit(void)
{
    ccoip_socket_address_t address;
    pid_t child = fork();
    int status = 0;

    CHECK(child >= 0);
    if (child == 0) {
        hang_is_failure(60);
        OK(pcclInit());
        left_master = running_master(&address);
        left_comm = communicator(address);
        OK(pcclConnect(left_comm));
        CHECK(atexit(tidy_up) == 0);
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct leaving {
    pcclAsyncReduceOp_t handle;
    int32_t data;
};

static pthread_key_t at_thread_end;

/* As a destructor of a thread_local object in C++. */
static void leave(void *argument)
{
    struct leaving *leaving = argument;

    MUST(pcclAwaitAsyncReduce(&leaving->handle, NULL) == pcclSuccess);
    MUST(leaving->data == 2);
    MUST(pcclDestroyCommunicator(leaving->handle.comm) == pcclSuccess);
    free(leaving);
}

static void *left_to_the_end(void *argument)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    const ccoip_socket_address_t *master = argument;
    struct leaving *leaving = malloc(sizeof *leaving);
    pcclComm_t *comm = communicator(*master);

    CHECK(leaving != NULL);
    OK(pcclConnect(comm));
    wait_for_world(comm, 2);
    leaving->data = 1;
    OK(pcclAllReduceAsync(&leaving->data, &leaving->data, &sum, comm, &leaving->handle));
    CHECK(pthread_setspecific(at_thread_end, leaving) == 0);
    return NULL;
}

static void destroyed_at_the_end_of_a_thread(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pthread_t threads[2];
    int i;

    CHECK(pthread_key_create(&at_thread_end, leave) == 0);
    for (i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, left_to_the_end, &address) == 0);
    for (i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(pthread_key_delete(at_thread_end) == 0);
    end_master(master);
}

#define CHILD(call) MUST((call) == pcclInvalidUsage && says_fork())

static int says_fork(void)
{
    char words[512] = "";
    pcclGetLastError(words, sizeof words);
    return strstr(words, "after a fork") != NULL;
}

/* What a child makes is its own. */
static void made_in_the_child(void)
{
    ccoip_socket_address_t address = loopback(0);
    pcclCommCreateParams_t params = params_of(address, 0);
    pcclMasterInstance_t *master = NULL;
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;
    int size = 0;

    MUST(pcclConfigCreate(&config) == pcclSuccess);
    MUST(pcclConfigSet(config, "pool", "3") == pcclSuccess);
    MUST(pcclCreateMaster(address, &master) == pcclSuccess);
    MUST(pcclRunMaster(master) == pcclSuccess);
    MUST(pcclMasterGetAddress(master, &params.master_address) == pcclSuccess);
    MUST(pcclCreateCommunicatorWithConfig(&params, config, &comm) == pcclSuccess);
    MUST(pcclConnect(comm) == pcclSuccess);
    MUST(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size) == pcclSuccess && size == 1);
    MUST(pcclDestroyCommunicator(comm) == pcclSuccess);
    MUST(pcclDestroyMaster(master) == pcclSuccess);
    MUST(pcclConfigDestroy(config) == pcclSuccess);
    MUST(pcclConfigDestroy(config) == pcclInvalidArgument);
}

/* Every call on a handle; only destruction is left. */
static void in_the_child(pcclComm_t *comm, pcclMasterInstance_t *master, pcclConfig_t *config,
                         const pcclAsyncReduceOp_t *handle)
{
    pcclCommCreateParams_t params = params_of(loopback(1), 0);
    pcclMasterInstance_t *other_master = NULL;
    pcclComm_t *other_comm = NULL;
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 9);
    pcclReduceOpDescriptor_t list;
    pcclSharedState_t state = {0, 0, NULL};
    ccoip_socket_address_t address;
    pcclAsyncReduceOp_t other;
    pcclStats_t stats;
    int32_t one = 1;
    bool flag = false;
    int size = 0;

    list.sendbuf = list.recvbuf = &one;
    list.descriptor = sum;
    stats.struct_size = sizeof stats;
    CHILD(pcclConnect(comm));
    CHILD(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size));
    CHILD(pcclUpdateTopology(comm));
    CHILD(pcclArePeersPending(comm, &flag));
    CHILD(pcclOptimizeTopology(comm));
    CHILD(pcclAllReduce(&one, &one, &sum, comm, NULL));
    CHILD(pcclAllReduceAsync(&one, &one, &sum, comm, &other));
    CHILD(pcclAllReduceMultipleWithRetry(&list, 1, comm, NULL, 1));
    CHILD(pcclAwaitAsyncReduce(handle, NULL));
    CHILD(pcclAwaitAsyncReduceTimeout(handle, 1000, NULL));
    CHILD(pcclTestAsyncReduce(handle, &flag));
    CHILD(pcclSynchronizeSharedState(comm, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, NULL));
    CHILD(pcclGetStats(comm, &stats));
    MUST(pcclDestroyCommunicator(comm) == pcclSuccess);
    MUST(pcclDestroyCommunicator(comm) == pcclInvalidArgument);
    MUST(pcclConnect(comm) == pcclInvalidArgument);
    MUST(pcclAwaitAsyncReduce(handle, NULL) == pcclInvalidArgument);
    CHILD(pcclConfigSet(config, "pool", "3"));
    CHILD(pcclCreateCommunicatorWithConfig(&params, config, &other_comm));
    CHILD(pcclCreateMasterWithConfig(loopback(0), config, &other_master));
    MUST(pcclConfigDestroy(config) == pcclSuccess);
    MUST(pcclConfigDestroy(config) == pcclInvalidArgument);
    CHILD(pcclRunMaster(master));
    CHILD(pcclMasterGetAddress(master, &address));
    CHILD(pcclInterruptMaster(master));
    CHILD(pcclMasterAwaitTermination(master));
    MUST(pcclDestroyMaster(master) == pcclSuccess);
    MUST(pcclDestroyMaster(master) == pcclInvalidArgument);
    made_in_the_child();
}

static pcclMasterInstance_t *forked_master;
static pcclConfig_t *forked_config;
static pthread_barrier_t child_has_ended;

/* Peer 0 forks with an operation under way; the other joins it only when the child has ended. */
static void forked(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    pcclAsyncReduceOp_t handle;
    int32_t one = 1;
    int status = 0;
    pid_t child;

    if (peer->index == 0) {
        OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
        fflush(NULL);
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            in_the_child(peer->comm, forked_master, forked_config, &handle);
            /* What belonged to the threads that are not here stays, and valgrind would blame a child that ends by itself. */
            execlp("true", "true", (char *)NULL);
            _exit(1);
        }
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        pthread_barrier_wait(&child_has_ended);
        OK(pcclAwaitAsyncReduce(&handle, NULL));
    } else {
        pthread_barrier_wait(&child_has_ended);
        OK(pcclAllReduce(&one, &one, &sum, peer->comm, NULL));
    }
    CHECK(one == 2);
    OK(pcclUpdateTopology(peer->comm));
}

#define FORKS 20

static void *hold_locks(void *argument)
{
    volatile sig_atomic_t *stop = argument;
    pcclComm_t *comm;

    while (!*stop) {
        comm = communicator(loopback(1));
        OK(pcclDestroyCommunicator(comm));
    }
    return NULL;
}

/* Whatever another thread holds at that moment, no call in the child waits for it. */
static void forked_in_the_middle(void)
{
    pcclComm_t *comm = communicator(loopback(1));
    volatile sig_atomic_t stop = 0;
    pthread_t thread;
    int i;

    CHECK(pthread_create(&thread, NULL, hold_locks, (void *)&stop) == 0);
    for (i = 0; i < FORKS; i++) {
        int status = 0;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            hang_is_failure(60);
            CHILD(pcclConnect(comm));
            MUST(pcclDestroyCommunicator(comm) == pcclSuccess);
            MUST(pcclDestroyCommunicator(comm) == pcclInvalidArgument);
            execlp("true", "true", (char *)NULL);
            _exit(1);
        }
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    OK(pcclDestroyCommunicator(comm));
}

int main(void)
{
    ccoip_socket_address_t address;

    hang_is_failure(100);
    destroyed_at_exit();
    OK(pcclInit());
    destroyed_at_the_end_of_a_thread();
    forked_in_the_middle();
    forked_master = running_master(&address);
    OK(pcclConfigCreate(&forked_config));
    CHECK(pthread_barrier_init(&child_has_ended, NULL, 2) == 0);
    together(2, forked);
    OK(pcclConfigSet(forked_config, "pool", "3"));
    OK(pcclConfigDestroy(forked_config));
    end_master(forked_master);
    puts("processes.c: everything as the header says");
    return 0;
}

/* Where a process doubles: in a forked child every handle of the parent fails, whatever the parent's threads were doing, what the
 * child makes works, and the parent goes on. Not for the sanitizers: a thread of the parent may hold a lock of their allocator, which
 * of gcc's before 14 knows nothing of forks, and the child would wait for it. */
#include "every_call.h"
#include "own_threads.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#define CHILD(call) MUST((call) == pcclInvalidUsage && says_fork())

static int says_fork(void)
{
    char words[512] = "";
    pcclGetLastError(words, sizeof words);
    return strstr(words, "after a fork") != NULL;
}

static void is_of_the_parent(const char *call, pcclResult_t result)
{
    if (result != pcclInvalidUsage || !says_fork())
        give_up(__FILE__, __LINE__, call);
}

/* The end of a child. What belonged to the threads that are not here stays, and valgrind would blame one that ends by itself. */
static void good_end(void)
{
    execlp("true", "true", (char *)NULL);
    _exit(1);
}

static void has_a_good_end(pid_t child)
{
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
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
    ccoip_socket_address_t address;

    every_call(comm, handle, is_of_the_parent);
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
    pid_t child;

    if (peer->index == 0) {
        OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
        fflush(NULL);
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            hang_is_failure(60);
            in_the_child(peer->comm, forked_master, forked_config, &handle);
            good_end();
        }
        has_a_good_end(child);
        pthread_barrier_wait(&child_has_ended);
        OK(pcclAwaitAsyncReduce(&handle, NULL));
    } else {
        pthread_barrier_wait(&child_has_ended);
        OK(pcclAllReduce(&one, &one, &sum, peer->comm, NULL));
    }
    CHECK(one == 2);
    OK(pcclUpdateTopology(peer->comm));
}

static void with_an_operation_under_way(void)
{
    ccoip_socket_address_t address;

    forked_master = running_master(&address);
    OK(pcclConfigCreate(&forked_config));
    CHECK(pthread_barrier_init(&child_has_ended, NULL, 2) == 0);
    together(2, forked);
    OK(pcclConfigSet(forked_config, "pool", "3"));
    OK(pcclConfigDestroy(forked_config));
    end_master(forked_master);
}

/* A thread that is never idle. */
struct busy {
    pthread_t thread;
    pthread_barrier_t has_begun;
    char name[THREAD_NAME_BYTES];
    volatile sig_atomic_t stop;
};

static void *hold_locks(void *argument)
{
    struct busy *busy = argument;
    pcclComm_t *comm;

    name_of_this_thread(busy->name);
    pthread_barrier_wait(&busy->has_begun);
    while (!busy->stop) {
        comm = communicator(loopback(1));
        OK(pcclDestroyCommunicator(comm));
    }
    return NULL;
}

static void make_busy(struct busy *busy)
{
    busy->stop = 0;
    CHECK(pthread_barrier_init(&busy->has_begun, NULL, 2) == 0);
    CHECK(pthread_create(&busy->thread, NULL, hold_locks, busy) == 0);
    pthread_barrier_wait(&busy->has_begun);
}

static void end_busy(struct busy *busy)
{
    CHECK(pthread_join(busy->thread, NULL) == 0 && pthread_barrier_destroy(&busy->has_begun) == 0);
}

/* Calls of all kinds, which tell the log of themselves. */
static void calls_of_a_child(pcclComm_t *comm)
{
    hang_is_failure(60);
    MUST(pcclInit() == pcclSuccess);
    CHILD(pcclConnect(comm));
    MUST(pcclDestroyCommunicator(comm) == pcclSuccess);
    MUST(pcclDestroyCommunicator(comm) == pcclInvalidArgument);
    made_in_the_child();
}

/* Whatever another thread holds at that moment, no call in the child waits for it. Every call writes a line of the log. */
static void forked_in_the_middle(void)
{
    pcclComm_t *comm = communicator(loopback(1));
    struct busy busy;
    int i, forks = less_will_do() ? 4 : 20;

    make_busy(&busy);
    for (i = 0; i < forks; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            calls_of_a_child(comm);
            good_end();
        }
        has_a_good_end(child);
    }
    busy.stop = 1;
    end_busy(&busy);
    OK(pcclDestroyCommunicator(comm));
}

/* While a thread of the parent is in the middle of writing a line: to a pipe that is full. */
static void forked_in_the_middle_of_a_line(void)
{
    pcclComm_t *comm = communicator(loopback(1));
    struct pollfd full;
    struct busy busy;
    int ends[2], of_the_process = dup(STDERR_FILENO);
    pid_t child;

    CHECK(of_the_process >= 0 && pipe(ends) == 0 && signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    full.fd = ends[1];
    full.events = POLLOUT;
    make_busy(&busy);
    /* It goes on for no more than what is left of the last page, then it stands in the middle of a line. */
    while (poll(&full, 1, 0) != 0 || !is_asleep(busy.name))
        sched_yield();
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        MUST(dup2(of_the_process, STDERR_FILENO) == STDERR_FILENO);
        calls_of_a_child(comm);
        good_end();
    }
    has_a_good_end(child);
    busy.stop = 1;
    /* Nobody reads any more, so it cannot be written. */
    CHECK(dup2(of_the_process, STDERR_FILENO) == STDERR_FILENO && close(ends[0]) == 0);
    end_busy(&busy);
    CHECK(close(ends[1]) == 0 && close(of_the_process) == 0);
    OK(pcclDestroyCommunicator(comm));
}

/* In a process of its own, whose log has every call. It is shown if something is wrong. */
static void talkative(void (*test)(void))
{
    FILE *log = tmpfile();
    int status = 0;
    pid_t child;

    CHECK(log != NULL);
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        hang_is_failure(100);
        MUST(setenv("PCCL_LOG_LEVEL", "trace", 1) == 0 && dup2(fileno(log), STDERR_FILENO) == STDERR_FILENO);
        OK(pcclInit());
        test();
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        char end[2048];
        long length;
        CHECK(fseek(log, 0, SEEK_END) == 0);
        length = ftell(log);
        CHECK(fseek(log, length < (long)sizeof end ? -length : -(long)sizeof end, SEEK_END) == 0);
        fwrite(end, 1, fread(end, 1, sizeof end, log), stderr);
        fail(__FILE__, __LINE__, "a process that forks");
    }
    fclose(log);
}

int main(void)
{
    hang_is_failure(110);
    /* Before this process has a thread besides. */
    talkative(forked_in_the_middle);
    talkative(forked_in_the_middle_of_a_line);
    OK(pcclInit());
    with_an_operation_under_way();
    puts("forks.c: a child has nothing of its parent's, and the parent all");
    return 0;
}

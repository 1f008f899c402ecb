/* Where a process or a thread ends: handles in exit handlers, and in what a thread leaves to its end. */
#include "harness.h"

#include <sys/wait.h>

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

int main(void)
{
    hang_is_failure(100);
    destroyed_at_exit();
    OK(pcclInit());
    destroyed_at_the_end_of_a_thread();
    puts("processes.c: everything as the header says");
    return 0;
}

/* Processes that come and go: what a trainer's loop looks like, while one of its peers is killed and another comes. */
#include "harness.h"

#include <signal.h>
#include <sys/wait.h>

#define PEERS 3
#define STOP UINT64_MAX

static volatile sig_atomic_t stop;

static void told_to_stop(int signal)
{
    (void)signal;
    stop = 1;
}

/* Repeats it until it succeeds; pcclTooFewPeers if nobody else is left. */
static pcclResult_t reduce(pcclComm_t *comm, const void *send, void *recv, const pcclReduceDescriptor_t *what,
                           pcclReduceInfo_t *info)
{
    pcclResult_t result;
    do {
        if (world_size(comm) < 2)
            return pcclTooFewPeers;
        result = pcclAllReduce(send, recv, what, comm, info);
    } while (result == pcclRankConnectionLost);
    CHECK(result == pcclSuccess || result == pcclTooFewPeers);
    return result;
}

/* Between two steps: whoever waits is let in, and begins with the next step as all others do. */
static void let_in(pcclComm_t *comm)
{
    bool pending = world_size(comm) < 2;
    if (!pending)
        OK(pcclArePeersPending(comm, &pending));
    if (pending)
        OK(pcclUpdateTopology(comm));
}

static int peer(const char *port)
{
    const pcclReduceDescriptor_t number = operation(1, pcclUint64, pcclMax, 0);
    const size_t elements = less_will_do() ? 10000 : 100000;
    const pcclReduceDescriptor_t sum = operation(elements, pcclFloat, pcclSum, 1);
    float *send = malloc(elements * sizeof *send), *recv = malloc(elements * sizeof *recv);
    uint64_t next = 1, highest = 0;
    pcclReduceInfo_t info;
    pcclComm_t *comm;
    size_t i;
    int steps = 0;

    CHECK(send && recv && signal(SIGUSR1, told_to_stop) != SIG_ERR);
    for (i = 0; i < elements; i++)
        send[i] = 1;
    OK(pcclInit());
    comm = communicator(loopback((uint16_t)atoi(port)));
    OK(pcclConnect(comm));
    for (;;) {
        /* The number of the step, which a newcomer learns from it, then the step. */
        next = stop ? STOP : next;
        if (reduce(comm, &next, &highest, &number, NULL) == pcclSuccess &&
            reduce(comm, send, recv, &sum, &info) == pcclSuccess) {
            /* Everybody contributes 1, so the result says how many there were. */
            for (i = 0; i < elements; i++)
                CHECK(recv[i] == (float)info.local_world_size && send[i] == 1);
            if (highest == STOP)
                break;
            next = highest + 1;
            if (++steps == 20) {
                puts("running");
                fflush(stdout);
            }
        }
        let_in(comm);
    }
    OK(pcclDestroyCommunicator(comm));
    free(send);
    free(recv);
    return 0;
}

struct process {
    pid_t pid;
    FILE *output;
};

static struct process start(const char *program, uint16_t port)
{
    struct process process;
    char number[8];
    int ends[2];

    CHECK(pipe(ends) == 0);
    snprintf(number, sizeof number, "%u", (unsigned)port);
    process.pid = fork();
    CHECK(process.pid >= 0);
    if (process.pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(program, program, number, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    CHECK((process.output = fdopen(ends[0], "r")) != NULL);
    return process;
}

static void wait_for(struct process *process, const char *word)
{
    char line[64];
    do
        CHECK(fgets(line, sizeof line, process->output));
    while (strncmp(line, word, strlen(word)) != 0);
}

static void ended(struct process *process, int by_signal)
{
    int status = 0;
    fclose(process->output);
    CHECK(waitpid(process->pid, &status, 0) == process->pid);
    CHECK(by_signal ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master;
    struct process peers[PEERS], late;
    int i;

    hang_is_failure(110);
    if (argc > 1)
        return peer(argv[1]);
    master = running_master(&address);
    for (i = 0; i < PEERS; i++)
        peers[i] = start(argv[0], address.port);
    for (i = 0; i < PEERS; i++)
        wait_for(&peers[i], "running");
    CHECK(kill(peers[1].pid, SIGKILL) == 0);
    late = start(argv[0], address.port);
    wait_for(&late, "running");
    CHECK(kill(peers[0].pid, SIGUSR1) == 0);
    ended(&peers[0], 0);
    ended(&peers[1], 1);
    ended(&peers[2], 0);
    ended(&late, 0);
    end_master(master);
    puts("churn.c: everybody who stayed made every step");
    return 0;
}

/* The library's log on standard error: what it tells at which level. It is the process's, so each level has a process. */
#include "harness.h"

#include <sys/wait.h>

#define ROOM (1 << 20)

/* A variable of the environment, and what it is set to; none: NULL. */
struct variable {
    const char *name;
    const char *value;
};

static char lines[ROOM];

/* What a process that does this writes to its standard error. */
static void log_of(struct variable variable, void (*program)(void))
{
    FILE *file = tmpfile();
    pid_t child;
    size_t length;
    int status = 0;

    CHECK(file != NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        hang_is_failure(60);
        if (variable.name)
            CHECK(setenv(variable.name, variable.value, 1) == 0);
        CHECK(dup2(fileno(file), STDERR_FILENO) == STDERR_FILENO);
        program();
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    rewind(file);
    length = fread(lines, 1, sizeof lines - 1, file);
    CHECK(length < sizeof lines - 1);
    lines[length] = '\0';
    fclose(file);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fputs(lines, stderr);
        fail(__FILE__, __LINE__, "the process that logs");
    }
}

static int times(const char *words)
{
    const char *at = lines;
    int count = 0;

    while ((at = strstr(at, words)) != NULL) {
        count++;
        at++;
    }
    return count;
}

/* Whether a line has all three. */
static bool line_with(const char *first, const char *second, const char *third)
{
    const char *line = lines;

    while (*line) {
        size_t length = strcspn(line, "\n");
        char one[4096];
        if (length < sizeof one) {
            memcpy(one, line, length);
            one[length] = '\0';
            if (strstr(one, first) && strstr(one, second) && strstr(one, third))
                return true;
        }
        line += length + (line[length] == '\n');
    }
    return false;
}

#define TELLS(first, second, third) (line_with(first, second, third) ? (void)0 : lacks(__LINE__, first, second))
#define SILENT() (*lines ? lacks(__LINE__, "silence", "") : (void)0)

static void lacks(int line, const char *what, const char *more)
{
    fprintf(stderr, "the log:\n%s", lines);
    fprintf(stderr, "no line of it has %s, %s\n", what, more);
    fail(__FILE__, line, "the log is not as expected");
}

/* Nothing goes wrong. */
static void in_peace(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    int32_t one = 1;

    OK(pcclAllReduce(&one, &one, &sum, peer->comm, NULL));
    CHECK(one == 2);
}

static void peace(void)
{
    OK(pcclInit());
    together(2, in_peace);
}

/* Peer 1 leaves while the other waits for it. */
static void deserted(struct peer *peer)
{
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 7), go = operation(1, pcclInt32, pcclSum, 8);
    pcclAsyncReduceOp_t handle;
    int32_t one = 1, ready = 1;

    if (peer->index == 0)
        OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    /* After it the master knows that the other has begun. */
    OK(pcclAllReduce(&ready, &ready, &go, peer->comm, NULL));
    if (peer->index == 0)
        CHECK(pcclAwaitAsyncReduce(&handle, NULL) == pcclRankConnectionLost);
}

/* Peer 1 is a step ahead, so it is put out. */
static void ahead(struct peer *peer)
{
    float weight = 1;
    pcclTensorInfo_t tensor = {"weight", NULL, 1, pcclFloat, pcclDeviceCpu, false};
    pcclSharedState_t state = {1, 1, NULL};
    pcclResult_t result;

    tensor.data = &weight;
    state.infos = &tensor;
    OK(pcclSynchronizeSharedState(peer->comm, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, NULL));
    state.revision = peer->index == 1 ? 4 : 2;
    result = pcclSynchronizeSharedState(peer->comm, &state, PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, NULL);
    CHECK(peer->index == 0 || result == pcclMasterConnectionFailed);
}

static void trouble(void)
{
    OK(pcclInit());
    together(2, deserted);
    together(2, ahead);
}

/* The level that a program chooses is that of the process. */
static void with_config(const char *level)
{
    pcclMasterInstance_t *master = NULL;
    pcclConfig_t *config = NULL;

    OK(pcclConfigCreate(&config));
    FAILS(pcclConfigSet(config, "log_level", "loud"), pcclInvalidArgument, "there are off, error");
    OK(pcclConfigSet(config, "log_level", level));
    OK(pcclCreateMasterWithConfig(loopback(0), config, &master));
    OK(pcclDestroyMaster(master));
    OK(pcclConfigDestroy(config));
    trouble();
}

static void made_silent(void)
{
    with_config("off");
}

static void made_talkative(void)
{
    with_config("INFO");
}

int main(void)
{
    static const struct variable unset = {NULL, NULL};
    static const char *const in_vain[] = {"PCCL_NUM_BENCHMARK_CONNECTIONS", "PCCL_MAX_CONCURRENT_COLLECTIVE_OPS",
                                          "PCCL_MULTIPLEX_CHUNK_SIZE"};
    static const char *const silent[] = {"off", "NONE", "ERR"};
    struct variable level = {"PCCL_LOG_LEVEL", NULL};
    /* Names of one thing are alike to valgrind. */
    const size_t most = less_will_do() ? 1 : SIZE_MAX;
    size_t i;

    CHECK(unsetenv("PCCL_LOG_LEVEL") == 0);
    hang_is_failure(110);
    log_of(unset, peace);
    SILENT();
    log_of(unset, trouble);
    TELLS(" WARN pccl[", "pcclAwaitAsyncReduce: aborted: ", "tag 7");
    TELLS(" WARN pccl[", "kicked: shared state", "revision 4");
    TELLS(" WARN pccl[", "pcclSynchronizeSharedState: master connection failed: ", "put out of the run: shared state: ");
    CHECK(times(" INFO ") == 0 && times(" DEBUG ") == 0 && times(" TRACE ") == 0);
    for (i = 0; i < sizeof silent / sizeof silent[0] && i < most; i++) {
        level.value = silent[i];
        log_of(level, trouble);
        SILENT();
    }
    level.value = "INFO";
    log_of(level, trouble);
    TELLS(" INFO pccl[", "begins with 2 peers", "newcomers were admitted");
    TELLS(" WARN pccl[", "pcclAwaitAsyncReduce: aborted: ", "tag 7");
    CHECK(times(" DEBUG ") == 0 && times(" TRACE ") == 0);
    level.value = "trace";
    log_of(level, peace);
    TELLS("TRACE pccl[", "pcclInit", "success");
    level.value = "loud";
    log_of(level, peace);
    TELLS(" WARN pccl[", "PCCL_LOG_LEVEL: \"loud\"", "there are off, error, warn, info, debug and trace");
    CHECK(times("\n") == 1);
    log_of(unset, made_silent);
    SILENT();
    log_of(unset, made_talkative);
    TELLS(" INFO pccl[", "begins with 2 peers", "newcomers were admitted");
    level.value = "warn";
    log_of(level, made_talkative);
    CHECK(times(" INFO ") == 0 && times(" WARN ") > 0);
    for (i = 0; i < sizeof in_vain / sizeof in_vain[0] && i < most; i++) {
        struct variable variable = {NULL, "8"};
        variable.name = in_vain[i];
        log_of(variable, peace);
        TELLS(" WARN pccl[", in_vain[i], "has no effect: ");
        CHECK(times("\n") == 1);
    }
    puts("logging.c: everything as PCCL_LOG_LEVEL says");
    return 0;
}

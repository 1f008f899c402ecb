/* Loads the library, uses it and unloads it, a hundred times: nothing may be left behind. A plug-in of some program does that. Where
 * only threads that have ended called it, the library itself is gone each time; where the thread that goes on did, it stays, and
 * does not grow. Under valgrind or a sanitizer (TEST_SLOWNESS) twice, and what is left is theirs to tell. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include "own_threads.h"

#include <pccl.h>

#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libpccl.so.0"
#define ROUNDS 100
/* What comes once has come by then. */
#define WARM 5
/* No memory kept for the next thread, be it stacks or pieces of the heap: so what is in use is exact. */
#define EXACT "glibc.malloc.tcache_count=0:glibc.pthread.stack_cache_size=0"
#define ELEMENTS 10000

#define CHECK(condition) ((condition) ? (void)0 : fail(__LINE__, #condition))
/* Calls `name` of the library that is loaded just now. */
#define CALL(name, type, ...) CHECK(((pcclResult_t(*) type)symbol(#name))(__VA_ARGS__) == pcclSuccess)

typedef void (*function)(void);

static void *library;

static void fail(int line, const char *what)
{
    fprintf(stderr, "load.c:%d: %s\n", line, what);
    exit(1);
}

static function symbol(const char *name)
{
    void *found = dlsym(library, name);
    function as_function;

    CHECK(found != NULL);
    /* C knows no cast between the two; POSIX says they are alike. */
    memcpy(&as_function, &found, sizeof as_function);
    return as_function;
}

struct peer {
    ccoip_socket_address_t master;
    pthread_t thread;
};

static void *run_peer(void *argument)
{
    struct peer *peer = argument;
    pcclCommCreateParams_t params;
    pcclReduceDescriptor_t sum;
    pcclComm_t *comm = NULL;
    float *data = calloc(ELEMENTS, sizeof *data);
    int size = 0;

    CHECK(data);
    memset(&params, 0, sizeof params);
    memset(&sum, 0, sizeof sum);
    params.master_address = peer->master;
    sum.count = ELEMENTS;
    sum.src_descriptor.datatype = pcclFloat;
    data[0] = 1;
    CALL(pcclCreateCommunicator, (const pcclCommCreateParams_t *, pcclComm_t **), &params, &comm);
    CALL(pcclConnect, (pcclComm_t *), comm);
    for (;;) {
        CALL(pcclGetAttribute, (const pcclComm_t *, pcclAttribute_t, int *), comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size);
        if (size == 2)
            break;
        CALL(pcclUpdateTopology, (pcclComm_t *), comm);
    }
    CALL(pcclAllReduce, (const void *, void *, const pcclReduceDescriptor_t *, const pcclComm_t *, pcclReduceInfo_t *), data,
         data, &sum, comm, NULL);
    CHECK(data[0] == 2);
    CALL(pcclDestroyCommunicator, (pcclComm_t *), comm);
    free(data);
    return NULL;
}

/* A master and two peers, of which one is this very thread if `in_this_thread`. */
static void use_it(bool in_this_thread)
{
    pcclMasterInstance_t *master = NULL;
    struct peer peers[2];
    int i, threads = in_this_thread ? 1 : 2;

    memset(peers, 0, sizeof peers);
    peers[0].master.inet.ipv4.data[0] = 127;
    peers[0].master.inet.ipv4.data[3] = 1;
    CALL(pcclInit, (void), );
    CALL(pcclCreateMaster, (ccoip_socket_address_t, pcclMasterInstance_t **), peers[0].master, &master);
    CALL(pcclRunMaster, (pcclMasterInstance_t *), master);
    CALL(pcclMasterGetAddress, (const pcclMasterInstance_t *, ccoip_socket_address_t *), master, &peers[0].master);
    peers[1] = peers[0];
    for (i = 0; i < threads; i++)
        CHECK(pthread_create(&peers[i].thread, NULL, run_peer, &peers[i]) == 0);
    if (in_this_thread)
        run_peer(&peers[1]);
    for (i = 0; i < threads; i++)
        CHECK(pthread_join(peers[i].thread, NULL) == 0);
    CALL(pcclDestroyMaster, (pcclMasterInstance_t *), master);
}

static void *use_it_and_end(void *nothing)
{
    use_it(false);
    return nothing;
}

static int entries(const char *folder)
{
    DIR *directory = opendir(folder);
    int count = 0;

    CHECK(directory != NULL);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

struct left {
    int descriptors;
    int mappings;
    size_t heap_bytes;
};

static struct left count(void)
{
    struct left left;
    FILE *maps = fopen("/proc/self/maps", "r");
    int c;

    CHECK(maps != NULL);
    left.mappings = 0;
    while ((c = getc(maps)) != EOF)
        left.mappings += c == '\n';
    fclose(maps);
    left.descriptors = entries("/proc/self/fd");
    left.heap_bytes = mallinfo2().uordblks;
    return left;
}

static void load_and_use(bool in_this_thread)
{
    pthread_t thread;

    library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail(__LINE__, dlerror());
    if (in_this_thread) {
        use_it(true);
    } else {
        CHECK(pthread_create(&thread, NULL, use_it_and_end, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(dlclose(library) == 0);
}

static void often(bool in_this_thread, bool counting)
{
    struct left warm = {0, 0, 0}, end = {0, 0, 0};
    int round, threads = own_threads(), rounds = counting ? ROUNDS : 2;

    for (round = 1; round <= rounds; round++) {
        load_and_use(in_this_thread);
        if (!in_this_thread)
            CHECK(dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD) == NULL);
        while (own_threads() > threads)
            sched_yield();
        if (counting)
            end = count();
        if (round <= WARM)
            warm = end;
    }
    if (!counting)
        return;
    printf("load.c, by a thread that %s: %d and %d descriptors, %d and %d mappings, %lu and %lu bytes of heap after %d and %d rounds\n",
           in_this_thread ? "goes on" : "ends", warm.descriptors, end.descriptors, warm.mappings, end.mappings,
           (unsigned long)warm.heap_bytes, (unsigned long)end.heap_bytes, WARM, ROUNDS);
    CHECK(end.descriptors == warm.descriptors);
    CHECK(end.mappings <= warm.mappings);
    CHECK(end.heap_bytes <= warm.heap_bytes);
}

int main(int argc, char **argv)
{
    const char *slowness = getenv("TEST_SLOWNESS");

    (void)argc;
    /* A hang is a failure. */
    alarm(110 * (unsigned)(slowness ? atoi(slowness) : 1));
    if (!slowness && !getenv("GLIBC_TUNABLES")) {
        /* It is read when a program starts. */
        CHECK(setenv("GLIBC_TUNABLES", EXACT, 1) == 0);
        execv("/proc/self/exe", argv);
        fail(__LINE__, "execv");
    }
    /* One heap, so that its use can be asked for. */
    CHECK(slowness || mallopt(M_ARENA_MAX, 1) == 1);
    often(false, !slowness);
    /* The last, as the library stays from then on. */
    often(true, !slowness);
    puts("load.c: nothing is left");
    return 0;
}

/* What the test programs share: checks that say where, addresses, a master, peers in threads. */
#ifndef HARNESS_H
#define HARNESS_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <ccoip.h>
#include <pccl.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *file, int line, const char *what)
{
    char words[512] = "";
    pcclGetLastError(words, sizeof words);
    fprintf(stderr, "%s:%d: %s (last error: %s)\n", file, line, what, words);
    exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))
#define OK(call) CHECK((call) == pcclSuccess)
/* For a result that was kept: `function` has returned this code. */
#define RETURNED(function, result, code) ((void)&(function), CHECK((result) == (code)))

/* The call fails with this code, and the last error has this word. */
#define FAILS(call, code, word) (CHECK((call) == (code)), says(__FILE__, __LINE__, word))

/* In an exit handler, and in a forked child, the way out is the short one: exit would run the handlers. */
#define MUST(condition) ((condition) ? (void)0 : give_up(__FILE__, __LINE__, #condition))

static inline void give_up(const char *file, int line, const char *what)
{
    char words[512] = "";
    pcclGetLastError(words, sizeof words);
    fprintf(stderr, "%s:%d: %s (last error: %s)\n", file, line, what, words);
    _exit(1);
}

static inline void says(const char *file, int line, const char *word)
{
    char words[512] = "";
    pcclGetLastError(words, sizeof words);
    if (!strstr(words, word))
        fail(file, line, word);
}

/* How many times slower the program runs than usual, as TEST_SLOWNESS says. */
static inline unsigned slowness(void)
{
    const char *times = getenv("TEST_SLOWNESS");
    return times ? (unsigned)atoi(times) : 1;
}

/* As under valgrind, which looks at what is done, not at how much of it. */
static inline bool less_will_do(void)
{
    return slowness() > 4;
}

static inline void hangs(int number)
{
    static const char words[] = __FILE__ ": the time of hang_is_failure is over\n";

    (void)number;
    /* Whether it is written or not: this is the end. */
    if (write(2, words, sizeof words - 1) < 0)
        _exit(2);
    _exit(1);
}

/* Ends the program after so long. */
static inline void hang_is_failure(unsigned seconds)
{
    signal(SIGALRM, hangs);
    alarm(seconds * slowness());
}

static inline ccoip_socket_address_t loopback(uint16_t port)
{
    ccoip_socket_address_t address;
    memset(&address, 0, sizeof address);
    address.inet.protocol = inetIPv4;
    address.inet.ipv4.data[0] = 127;
    address.inet.ipv4.data[3] = 1;
    address.port = port;
    return address;
}

/* Runs on a free port; where is written to `address`. */
static inline pcclMasterInstance_t *running_master(ccoip_socket_address_t *address)
{
    pcclMasterInstance_t *master = NULL;
    OK(pcclCreateMaster(loopback(0), &master));
    OK(pcclRunMaster(master));
    OK(pcclMasterGetAddress(master, address));
    return master;
}

static inline void end_master(pcclMasterInstance_t *master)
{
    OK(pcclInterruptMaster(master));
    OK(pcclMasterAwaitTermination(master));
    OK(pcclDestroyMaster(master));
}

static inline pcclCommCreateParams_t params_of(ccoip_socket_address_t master, uint32_t group)
{
    pcclCommCreateParams_t params;
    memset(&params, 0, sizeof params);
    params.master_address = master;
    params.peer_group = group;
    params.p2p_connection_pool_size = 2;
    return params;
}

static inline pcclComm_t *communicator(ccoip_socket_address_t master)
{
    pcclCommCreateParams_t params = params_of(master, 0);
    pcclComm_t *comm = NULL;
    OK(pcclCreateCommunicator(&params, &comm));
    return comm;
}

static inline int world_size(const pcclComm_t *comm)
{
    int size = 0;
    OK(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size));
    return size;
}

/* Who is in already lets in the others. */
static inline void wait_for_world(pcclComm_t *comm, int size)
{
    while (world_size(comm) < size)
        OK(pcclUpdateTopology(comm));
}

static inline pcclReduceDescriptor_t operation(size_t count, pcclDataType_t datatype, pcclRedOp_t op, uint64_t tag)
{
    pcclReduceDescriptor_t descriptor;
    memset(&descriptor, 0, sizeof descriptor);
    descriptor.count = count;
    descriptor.op = op;
    descriptor.tag = tag;
    descriptor.src_descriptor.datatype = datatype;
    return descriptor;
}

struct peer {
    ccoip_socket_address_t master;
    int index;
    int peers;
    pcclComm_t *comm;
    void (*body)(struct peer *);
};

static inline void *run_peer(void *argument)
{
    struct peer *peer = argument;
    peer->comm = communicator(peer->master);
    OK(pcclConnect(peer->comm));
    wait_for_world(peer->comm, peer->peers);
    peer->body(peer);
    OK(pcclDestroyCommunicator(peer->comm));
    return NULL;
}

/* Runs `body` at so many peers of one run at once, and waits for them. */
static inline void together(int count, void (*body)(struct peer *))
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pthread_t threads[16];
    struct peer peers[16];
    int i;

    CHECK(count <= 16);
    for (i = 0; i < count; i++) {
        peers[i].master = address;
        peers[i].index = i;
        peers[i].peers = count;
        peers[i].body = body;
        CHECK(pthread_create(&threads[i], NULL, run_peer, &peers[i]) == 0);
    }
    for (i = 0; i < count; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    end_master(master);
}

/* Two peers of one run, both connected, in the hands of one thread. */
struct pair {
    pcclMasterInstance_t *master;
    pcclComm_t *first;
    pcclComm_t *second;
};

static inline void *connect_it(void *comm)
{
    OK(pcclConnect(comm));
    return NULL;
}

static inline struct pair pair(void)
{
    ccoip_socket_address_t address;
    struct pair pair;
    pthread_t thread;

    pair.master = running_master(&address);
    pair.first = communicator(address);
    pair.second = communicator(address);
    OK(pcclConnect(pair.first));
    CHECK(pthread_create(&thread, NULL, connect_it, pair.second) == 0);
    wait_for_world(pair.first, 2);
    CHECK(pthread_join(thread, NULL) == 0);
    return pair;
}

#endif /* HARNESS_H */

/* Several all-reduces at once, waits with a time limit, lists with retry, quantization, settings, counters. */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define OPERATIONS 20
#define COUNT 30000

static void concurrent(struct peer *peer)
{
    pcclAsyncReduceOp_t handles[OPERATIONS];
    int32_t *data = malloc(OPERATIONS * COUNT * sizeof *data);
    int32_t one = 1;
    float one_float = 1;
    int i, k;

    CHECK(data);
    for (i = 0; i < OPERATIONS; i++) {
        pcclReduceDescriptor_t sum = operation(COUNT, pcclInt32, pcclSum, (uint64_t)i);
        for (k = 0; k < COUNT; k++)
            data[i * COUNT + k] = i * k + peer->index;
        OK(pcclAllReduceAsync(&data[i * COUNT], &data[i * COUNT], &sum, peer->comm, &handles[i]));
        CHECK(handles[i].comm == peer->comm && handles[i].tag == (uint64_t)i);
    }
    {
        pcclReduceDescriptor_t again = operation(1, pcclInt32, pcclSum, 3);
        pcclAsyncReduceOp_t other;
        CHECK(pcclAllReduceAsync(&one, &one, &again, peer->comm, &other) == pcclInvalidArgument);
    }
    /* In any order. */
    for (i = OPERATIONS - 1; i >= 0; i--) {
        OK(pcclAwaitAsyncReduce(&handles[i], NULL));
        FAILS(pcclAwaitAsyncReduce(&handles[i], NULL), pcclInvalidArgument, "not in flight");
        for (k = 0; k < COUNT; k++)
            CHECK(data[i * COUNT + k] == peer->peers * i * k + peer->peers * (peer->peers - 1) / 2);
    }
    /* Peers that disagree are told so. */
    {
        pcclReduceDescriptor_t odd = operation(1, peer->index ? pcclFloat : pcclInt32, pcclSum, 50);
        FAILS(pcclAllReduce(peer->index ? (void *)&one_float : (void *)&one, peer->index ? (void *)&one_float : (void *)&one,
                            &odd, peer->comm, NULL),
              pcclInvalidArgument, "tag 50");
        CHECK(one == 1 && one_float == 1);
        /* Nobody leaves before all have been told. */
        odd = operation(1, pcclInt32, pcclMin, 51);
        OK(pcclAllReduce(&one, &one, &odd, peer->comm, NULL));
    }
    free(data);
}

static void timed(struct peer *peer)
{
    pcclReduceDescriptor_t sum = operation(1, pcclUint8, pcclSum, 1), go = operation(1, pcclUint8, pcclSum, 2);
    pcclAsyncReduceOp_t handle, unknown = {NULL, 9};
    uint8_t data = 1, ready = 1;
    bool done = true;

    unknown.comm = peer->comm;
    CHECK(pcclTestAsyncReduce(&unknown, &done) == pcclInvalidArgument);
    CHECK(pcclAwaitAsyncReduceTimeout(&unknown, 1, NULL) == pcclInvalidArgument);
    CHECK(pcclTestAsyncReduce(NULL, &done) == pcclInvalidArgument);
    if (peer->index == 0) {
        OK(pcclAllReduceAsync(&data, &data, &sum, peer->comm, &handle));
        /* The other one comes only when this one says so. */
        OK(pcclTestAsyncReduce(&handle, &done));
        CHECK(!done);
        FAILS(pcclUpdateTopology(peer->comm), pcclPendingAsyncOps, "tag 1");
        FAILS(pcclAwaitAsyncReduceTimeout(&handle, 20, NULL), pcclTimeout, "20 ms");
        CHECK(strstr(pcclGetErrorString(pcclTimeout), "time"));
    }
    OK(pcclAllReduce(&ready, &ready, &go, peer->comm, NULL));
    if (peer->index != 0)
        OK(pcclAllReduceAsync(&data, &data, &sum, peer->comm, &handle));
    OK(pcclAwaitAsyncReduceTimeout(&handle, 60000, NULL));
    CHECK(data == 2);
    CHECK(pcclTestAsyncReduce(&handle, &done) == pcclInvalidArgument);
}

static void lists(struct peer *peer)
{
    float send[7][100], recv[7][100];
    pcclReduceOpDescriptor_t list[7];
    pcclReduceInfo_t info;
    pcclStats_t stats;
    int i, k;

    for (i = 0; i < 7; i++) {
        for (k = 0; k < 100; k++)
            send[i][k] = (float)(i + k + peer->index);
        list[i].sendbuf = send[i];
        list[i].recvbuf = i % 2 ? send[i] : recv[i];
        list[i].descriptor = operation(100, pcclFloat, pcclAvg, (uint64_t)i);
    }
    OK(pcclAllReduceMultipleWithRetry(list, 7, peer->comm, &info, 3));
    CHECK(info.local_world_size == (uint32_t)peer->peers && info.tx_bytes > 0 && info.rx_bytes > 0);
    for (i = 0; i < 7; i++)
        for (k = 0; k < 100; k++)
            CHECK((i % 2 ? send : recv)[i][k] == (float)(i + k) + (float)(peer->peers - 1) / 2);

    FAILS(pcclAllReduceMultipleWithRetry(list, 7, peer->comm, NULL, 0), pcclInvalidArgument, "max_in_flight");
    CHECK(pcclAllReduceMultipleWithRetry(NULL, 7, peer->comm, NULL, 1) == pcclInvalidArgument);
    CHECK(pcclAllReduceMultipleWithRetry(list, (size_t)-1, peer->comm, NULL, 1) == pcclInvalidArgument);
    list[5].descriptor.op = (pcclRedOp_t)9;
    FAILS(pcclAllReduceMultipleWithRetry(list, 7, peer->comm, NULL, 1), pcclInvalidArgument, "descriptors[5]");
    list[5].descriptor = operation(100, pcclFloat, pcclSum, 4);
    FAILS(pcclAllReduceMultipleWithRetry(list, 7, peer->comm, NULL, 2), pcclInvalidArgument, "twice");
    /* What only the quantization refuses is known before anything is started, too. */
    list[5].descriptor = operation(100, pcclFloat, pcclProd, 5);
    list[5].descriptor.quantization_options.algorithm = pcclQuantBits4;
    FAILS(pcclAllReduceMultipleWithRetry(list, 7, peer->comm, NULL, 2), pcclInvalidArgument, "descriptors[5]");
    CHECK(pcclAllReduceMultipleWithRetry(NULL, 0, peer->comm, NULL, 1) == pcclInvalidArgument);
    OK(pcclAllReduceMultipleWithRetry(list, 0, peer->comm, &info, 1));
    CHECK(info.local_world_size == (uint32_t)peer->peers && info.tx_bytes == 0 && info.rx_bytes == 0);

    stats.struct_size = sizeof stats;
    OK(pcclGetStats(peer->comm, &stats));
    CHECK(stats.struct_size == sizeof stats && stats.ops_reduced == 7 && stats.ops_aborted == 0);
    CHECK(stats.tx_bytes > 0 && stats.wire_tx_bytes > stats.tx_bytes && stats.epochs > 0 && stats.links_up > 0);
    stats.struct_size = 2 * sizeof(size_t);
    stats.ops_aborted = 77;
    OK(pcclGetStats(peer->comm, &stats));
    CHECK(stats.ops_reduced == 7 && stats.ops_aborted == 77);
    stats.struct_size = 0;
    CHECK(pcclGetStats(peer->comm, &stats) == pcclInvalidArgument);
    OK(pcclOptimizeTopology(peer->comm));
}

/* Peer 1 leaves in the middle of the list of the other, which then has its inputs again, also those that were reduced. */
static void half_way(struct peer *peer)
{
    int32_t data[7][50];
    pcclReduceOpDescriptor_t list[7];
    int i, k;

    for (i = 0; i < 7; i++) {
        for (k = 0; k < 50; k++)
            data[i][k] = i * k + 1;
        list[i].sendbuf = list[i].recvbuf = data[i];
        list[i].descriptor = operation(50, pcclInt32, pcclSum, (uint64_t)i);
    }
    if (peer->index == 1) {
        OK(pcclAllReduceMultipleWithRetry(list, 4, peer->comm, NULL, 1));
        return;
    }
    FAILS(pcclAllReduceMultipleWithRetry(list, 7, peer->comm, NULL, 1), pcclTooFewPeers, "only this peer");
    for (i = 0; i < 7; i++)
        for (k = 0; k < 50; k++)
            CHECK(data[i][k] == i * k + 1);
}

static void quantized(struct peer *peer)
{
    static const struct {
        pcclQuantizationAlgorithm_t algorithm;
        pcclDataType_t datatype;
        float error;
    } ways[] = {
        {pcclQuantMinMax, pcclUint8, 0.02f},    {pcclQuantMinMax, pcclInt16, 0.0001f},
        {pcclQuantZeroPointScale, pcclInt8, 0.02f}, {pcclQuantZeroPointScale, pcclUint16, 0.0001f},
        {pcclQuantBits4, pcclUint8, 0.3f},      {pcclQuantFloat8E4M3, pcclUint8, 0.2f},
        {pcclQuantFloat8E5M2, pcclUint8, 0.4f}, {pcclQuantFloat16, pcclUint8, 0.002f},
        {pcclQuantBFloat16, pcclUint8, 0.02f},
    };
    float *send = malloc(COUNT * sizeof *send), *recv = malloc(COUNT * sizeof *recv);
    size_t way;
    int k;

    CHECK(send && recv);
    for (way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        pcclReduceDescriptor_t sum = operation(COUNT, pcclFloat, pcclSum, way);
        pcclReduceInfo_t info;
        sum.quantization_options.algorithm = ways[way].algorithm;
        sum.quantization_options.quantized_datatype = ways[way].datatype;
        for (k = 0; k < COUNT; k++)
            send[k] = (float)((k * 37 + peer->index) % 1000) / 500 - 1;
        OK(pcclAllReduce(send, recv, &sum, peer->comm, &info));
        CHECK(info.tx_bytes < COUNT * sizeof *send * 6 / 10);
        for (k = 0; k < COUNT; k++) {
            float exact = (float)(k * 37 % 1000) / 500 + (float)((k * 37 + 1) % 1000) / 500 - 2;
            CHECK(recv[k] - exact <= ways[way].error && exact - recv[k] <= ways[way].error);
        }
    }
    {
        pcclReduceDescriptor_t whole = operation(1, pcclInt32, pcclSum, 1);
        pcclAsyncReduceOp_t handle;
        int32_t one = 1;
        whole.quantization_options.algorithm = pcclQuantMinMax;
        FAILS(pcclAllReduce(&one, &one, &whole, peer->comm, NULL), pcclInvalidArgument, "integers");
        FAILS(pcclAllReduceAsync(&one, &one, &whole, peer->comm, &handle), pcclInvalidArgument, "integers");
        whole.quantization_options.algorithm = (pcclQuantizationAlgorithm_t)8;
        CHECK(pcclAllReduce(&one, &one, &whole, peer->comm, NULL) == pcclInvalidArgument);
    }
    free(send);
    free(recv);
}

static void settings(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = NULL;
    pcclConfig_t *config = NULL, *of_master = NULL;
    pcclCommCreateParams_t params;
    pcclComm_t *comm = NULL;

    OK(pcclConfigCreate(&config));
    OK(pcclConfigCreate(&of_master));
    CHECK(pcclConfigCreate(NULL) == pcclInvalidArgument);
    FAILS(pcclConfigSet(config, "polo", "4"), pcclInvalidArgument, "polo");
    FAILS(pcclConfigSet(config, "schedule", "star"), pcclInvalidArgument, "ring");
    FAILS(pcclConfigSet(config, "pool", "many"), pcclInvalidArgument, "many");
    CHECK(pcclConfigSet(config, NULL, "4") == pcclInvalidArgument && pcclConfigSet(NULL, "pool", "4") == pcclInvalidArgument);
    OK(pcclConfigSet(config, "pool", "3"));
    OK(pcclConfigSet(of_master, "schedule", "ring"));
    OK(pcclCreateMasterWithConfig(loopback(0), of_master, &master));
    CHECK(pcclCreateMasterWithConfig(loopback(0), NULL, &master) == pcclInvalidArgument);
    OK(pcclConfigDestroy(of_master));
    OK(pcclRunMaster(master));
    OK(pcclMasterGetAddress(master, &address));
    params = params_of(address, 0);
    /* More than the library makes; it makes as many as it does. */
    params.p2p_connection_pool_size = 1000;
    OK(pcclCreateCommunicator(&params, &comm));
    OK(pcclDestroyCommunicator(comm));
    params.p2p_connection_pool_size = 2;
    OK(pcclCreateCommunicatorWithConfig(&params, config, &comm));
    CHECK(pcclCreateCommunicatorWithConfig(&params, NULL, &comm) == pcclInvalidArgument);
    OK(pcclConfigDestroy(config));
    CHECK(pcclOptimizeTopology(comm) == pcclInvalidUsage);
    OK(pcclConnect(comm));
    FAILS(pcclOptimizeTopology(comm), pcclInvalidUsage, "alone");
    OK(pcclDestroyCommunicator(comm));
    end_master(master);
}

static void about(void)
{
    pcclBuildInfo_t build;
    int major = -1, minor = -1, patch = -1;

    build.has_cuda_support = true;
    OK(pcclGetBuildInfo(&build));
    CHECK(!build.has_cuda_support && pcclGetBuildInfo(NULL) == pcclInvalidArgument);
    OK(pcclGetVersion(&major, &minor, &patch));
    CHECK(major >= 0 && minor >= 0 && patch >= 0 && pcclGetVersion(NULL, &minor, &patch) == pcclInvalidArgument);
}

/* A port that nobody listens on, and that nobody else gets: it is taken, by a socket that may share it. Linux lets a listener have the
 * port of one that is bound and does not listen, if both say SO_REUSEADDR; other systems need not. */
static int silent_port(ccoip_socket_address_t *address)
{
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    int on = 1, holder = socket(AF_INET, SOCK_STREAM, 0);

    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(holder >= 0 && setsockopt(holder, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(holder, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(getsockname(holder, (struct sockaddr *)&name, &size) == 0);
    *address = loopback(ntohs(name.sin_port));
    return holder;
}

static void nowhere(void)
{
    ccoip_socket_address_t address;
    int holder = silent_port(&address);
    pcclMasterInstance_t *master = NULL;
    pcclComm_t *comm = communicator(address);

    CHECK(pcclConnect(comm) == pcclMasterConnectionFailed);
    OK(pcclCreateMaster(address, &master));
    OK(pcclRunMaster(master));
    OK(pcclConnect(comm));
    OK(pcclDestroyCommunicator(comm));
    end_master(master);
    CHECK(close(holder) == 0);
}

int main(void)
{
    hang_is_failure(100);
    about();
    OK(pcclInit());
    together(3, concurrent);
    together(2, timed);
    together(3, lists);
    together(2, half_way);
    together(2, quantized);
    settings();
    nowhere();
    puts("operations.c: everything as the header says");
    return 0;
}

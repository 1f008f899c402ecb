/* A master and two peers in one process: connect, all-reduce out of place, in place and asynchronously, and what
 * wrong arguments get. Exits with 0 only if everything was as the header says. */
#include "harness.h"

#define COUNT 100003
#define PEERS 2

struct reducer {
    ccoip_socket_address_t master;
    int rank;
    pcclComm_t *comm;
    float *result;
};

static pcclReduceDescriptor_t floats(size_t count, uint64_t tag)
{
    return operation(count, pcclFloat, pcclSum, tag);
}

static void reduce(struct reducer *peer)
{
    const pcclReduceDescriptor_t sum = floats(COUNT, 1);
    pcclReduceDescriptor_t one = floats(1, 2), two = floats(1, 3);
    pcclReduceInfo_t info;
    pcclAsyncReduceOp_t first, second;
    float *send = malloc(COUNT * sizeof *send);
    float a = 1, b = (float)peer->rank;
    size_t i;

    CHECK(send && peer->result);
    for (i = 0; i < COUNT; i++)
        send[i] = (float)(i % 1000) + (float)peer->rank;
    OK(pcclAllReduce(send, peer->result, &sum, peer->comm, &info));
    CHECK(info.local_world_size == PEERS && info.tx_bytes > 0 && info.rx_bytes > 0);
    for (i = 0; i < COUNT; i++)
        CHECK(peer->result[i] == 2 * (float)(i % 1000) + 1);

    OK(pcclAllReduce(send, send, &sum, peer->comm, NULL));
    CHECK(memcmp(send, peer->result, COUNT * sizeof *send) == 0);

    two.op = pcclMax;
    OK(pcclAllReduceAsync(&a, &a, &one, peer->comm, &first));
    OK(pcclAllReduceAsync(&b, &b, &two, peer->comm, &second));
    OK(pcclAwaitAsyncReduce(&second, NULL));
    OK(pcclAwaitAsyncReduce(&first, &info));
    CHECK(a == 2 && b == 1);
    CHECK(pcclAwaitAsyncReduce(&first, NULL) == pcclInvalidArgument);
    free(send);
}

static void *run_reducer(void *argument)
{
    struct reducer *peer = argument;
    bool pending = true;
    int size = 0;

    peer->comm = communicator(peer->master);
    CHECK(pcclGetAttribute(peer->comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size) == pcclInvalidUsage);
    OK(pcclConnect(peer->comm));
    CHECK(pcclConnect(peer->comm) == pcclInvalidUsage);
    /* The second peer to come is admitted by the first one's update, so only that one updates. */
    while (world_size(peer->comm) < PEERS)
        OK(pcclUpdateTopology(peer->comm));
    OK(pcclArePeersPending(peer->comm, &pending));
    CHECK(!pending);
    reduce(peer);
    OK(pcclDestroyCommunicator(peer->comm));
    return NULL;
}

static void wrong_arguments(ccoip_socket_address_t master)
{
    pcclReduceDescriptor_t descriptor = floats(4, 0);
    pcclComm_t *comm = communicator(master);
    float data[4] = {1, 2, 3, 4};
    int size = 0;

    CHECK(pcclCreateCommunicator(NULL, &comm) == pcclInvalidArgument);
    CHECK(pcclConnect(NULL) == pcclInvalidArgument);
    CHECK(pcclUpdateTopology(comm) == pcclInvalidUsage);
    OK(pcclConnect(comm));
    OK(pcclGetAttribute(comm, PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, &size));
    CHECK(size == 1);
    CHECK(pcclGetAttribute(comm, (pcclAttribute_t)5, &size) == pcclInvalidArgument);
    CHECK(pcclAllReduce(data, data, &descriptor, comm, NULL) == pcclTooFewPeers);
    CHECK(pcclAllReduce(NULL, data, &descriptor, comm, NULL) == pcclInvalidArgument);
    CHECK(pcclAllReduce(data, data + 1, &descriptor, comm, NULL) == pcclInvalidArgument);
    descriptor.count = 0;
    CHECK(pcclAllReduce(data, data, &descriptor, comm, NULL) == pcclInvalidArgument);
    descriptor = floats(4, 0);
    descriptor.src_descriptor.datatype = (pcclDataType_t)12;
    CHECK(pcclAllReduce(data, data, &descriptor, comm, NULL) == pcclInvalidArgument);
    CHECK(data[0] == 1 && data[3] == 4);
    CHECK(strlen(pcclGetErrorString(pcclTooFewPeers)) > 0);
    OK(pcclDestroyCommunicator(comm));
}

int main(void)
{
    ccoip_socket_address_t master_address = loopback(0);
    pcclMasterInstance_t *master = NULL, *other = NULL;
    pthread_t threads[PEERS];
    struct reducer peers[PEERS];
    pcclCommCreateParams_t params;
    pcclComm_t *comm = NULL;
    int i;

    hang_is_failure(90);
    memset(&params, 0, sizeof params);
    CHECK(pcclCreateCommunicator(&params, &comm) == pcclNotInitialized);
    OK(pcclInit());
    OK(pcclInit());
    OK(pcclCreateMaster(master_address, &master));
    CHECK(pcclMasterGetAddress(master, &master_address) == pcclInvalidUsage);
    OK(pcclRunMaster(master));
    CHECK(pcclRunMaster(master) == pcclInvalidArgument);
    OK(pcclMasterGetAddress(master, &master_address));
    CHECK(master_address.port != 0 && master_address.port != CCOIP_PROTOCOL_PORT_P2P);
    OK(pcclCreateMaster(master_address, &other));
    CHECK(pcclRunMaster(other) != pcclSuccess);
    OK(pcclDestroyMaster(other));

    wrong_arguments(master_address);
    for (i = 0; i < PEERS; i++) {
        peers[i].master = master_address;
        peers[i].rank = i;
        peers[i].result = malloc(COUNT * sizeof(float));
        CHECK(pthread_create(&threads[i], NULL, run_reducer, &peers[i]) == 0);
    }
    for (i = 0; i < PEERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(memcmp(peers[0].result, peers[1].result, COUNT * sizeof(float)) == 0);
    for (i = 0; i < PEERS; i++)
        free(peers[i].result);

    OK(pcclInterruptMaster(master));
    OK(pcclMasterAwaitTermination(master));
    OK(pcclDestroyMaster(master));
    puts("all_reduce.c: everything as the header says");
    return 0;
}

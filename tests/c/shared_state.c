/* A shared state among three peers: newcomers receive it, one element differs, nothing differs, and what wrong tensors get. */
#include "harness.h"

/* Some blocks, and a part of one. */
#define COUNT 150000
#define BLOCK_BYTES (256 * 1024)

/* With its revision and content as `index` says. */
struct model {
    float *weights;
    uint16_t halves[3];
    double own;
    pcclTensorInfo_t infos[4];
    pcclSharedState_t state;
};

static void tensor(pcclTensorInfo_t *info, const char *name, void *data, size_t count, pcclDataType_t datatype)
{
    memset(info, 0, sizeof *info);
    info->name = name;
    info->data = data;
    info->count = count;
    info->datatype = datatype;
    info->device_type = pcclDeviceCpu;
}

static struct model *model(uint64_t revision, int content)
{
    struct model *model = calloc(1, sizeof *model);
    size_t i;

    CHECK(model && (model->weights = malloc(COUNT * sizeof(float))));
    for (i = 0; i < COUNT; i++)
        model->weights[i] = (float)i + (float)content;
    for (i = 0; i < 3; i++)
        model->halves[i] = (uint16_t)(content * 7 + (int)i);
    model->own = content;
    tensor(&model->infos[0], "weights", model->weights, COUNT, pcclFloat);
    tensor(&model->infos[1], "halves", model->halves, 3, pcclBFloat16);
    tensor(&model->infos[2], "own", &model->own, 1, pcclDouble);
    model->infos[2].allow_content_inequality = true;
    tensor(&model->infos[3], "nothing", NULL, 0, pcclInt8);
    model->state.revision = revision;
    model->state.count = 4;
    model->state.infos = model->infos;
    return model;
}

static void release(struct model *model)
{
    free(model->weights);
    free(model);
}

static void check_content(const struct model *model, int content)
{
    size_t i;
    for (i = 0; i < COUNT; i++)
        CHECK(model->weights[i] == (float)i + (float)content);
    for (i = 0; i < 3; i++)
        CHECK(model->halves[i] == (uint16_t)(content * 7 + (int)i));
}

static void synchronize(struct peer *peer)
{
    const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;
    const pcclSharedStateSyncStrategy_t sends = PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY;
    const pcclSharedStateSyncStrategy_t receives = PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY;
    const int last = peer->index == 2;
    struct model *mine = model(last ? 0 : 5, last ? 1 : 4);
    pcclSharedStateSyncInfo_t info;

    /* The last one is outdated: it receives everything, also what may differ. */
    OK(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, &info));
    CHECK(mine->state.revision == 5 && mine->own == 4);
    check_content(mine, 4);
    CHECK(last ? info.rx_bytes >= COUNT * sizeof(float) && info.tx_bytes == 0 : info.rx_bytes == 0);

    /* Nothing differs but what may. */
    mine->state.revision = 6;
    mine->own = peer->index;
    OK(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, &info));
    CHECK(mine->state.revision == 6 && mine->own == peer->index);
    CHECK(info.tx_bytes == 0 && info.rx_bytes == 0);

    /* One element: one block. */
    mine->state.revision = 7;
    if (last)
        mine->weights[COUNT / 2] = -1;
    OK(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, &info));
    check_content(mine, 4);
    CHECK(info.rx_bytes == (last ? BLOCK_BYTES : 0));

    /* Who only sends wins. */
    mine->state.revision = 8;
    if (peer->index == 0)
        mine->halves[0] ^= 1;
    OK(pcclSynchronizeSharedState(peer->comm, &mine->state, peer->index == 0 ? sends : receives, NULL));
    CHECK(mine->halves[0] == ((4 * 7) ^ 1) && mine->own == peer->index);

    /* Nobody offers one. */
    mine->state.revision = 9;
    FAILS(pcclSynchronizeSharedState(peer->comm, &mine->state, receives, &info), pcclNoSharedStateAvailable, "nobody");
    CHECK(mine->state.revision == 9);
    release(mine);
}

/* Every one of them at this peer alone: nothing is sent. */
static void wrong_tensors(struct peer *peer)
{
    const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;
    struct model *mine = model(1, 1);
    pcclSharedState_t *state = &mine->state;
    pcclTensorInfo_t *info = &mine->infos[0];
    pcclReduceDescriptor_t sum = operation(1, pcclFloat, pcclSum, 1), go = operation(1, pcclFloat, pcclSum, 2);
    pcclAsyncReduceOp_t handle;
    float one = 1, ready = 1;

    FAILS(pcclSynchronizeSharedState(NULL, state, popular, NULL), pcclInvalidArgument, "comm");
    FAILS(pcclSynchronizeSharedState(peer->comm, NULL, popular, NULL), pcclInvalidArgument, "shared_state");
    FAILS(pcclSynchronizeSharedState(peer->comm, state, (pcclSharedStateSyncStrategy_t)3, NULL), pcclInvalidArgument, "3");
    info->name = NULL;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "infos[0].name");
    info->name = "\xff";
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "UTF-8");
    info->name = "halves";
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "two tensors");
    info->name = "weights";
    info->data = NULL;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "data is NULL");
    info->data = mine->weights;
    info->datatype = (pcclDataType_t)12;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "data type");
    info->datatype = pcclFloat;
    info->device_type = pcclDeviceCuda;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "CUDA");
    info->device_type = (pcclDeviceType_t)2;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "device");
    info->device_type = pcclDeviceCpu;
    info->count = (size_t)-1;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "too many");
    info->count = COUNT;
    state->count = (size_t)-1;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "tensors");
    state->count = 1;
    state->infos = NULL;
    FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclInvalidArgument, "infos");
    state->infos = mine->infos;

    if (peer->index == 0) {
        /* The other one comes only when this one says so. */
        OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
        FAILS(pcclSynchronizeSharedState(peer->comm, state, popular, NULL), pcclPendingAsyncOps, "tag 1");
    }
    OK(pcclAllReduce(&ready, &ready, &go, peer->comm, NULL));
    if (peer->index != 0)
        OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    OK(pcclAwaitAsyncReduce(&handle, NULL));
    CHECK(one == (float)peer->peers && state->revision == 1);
    release(mine);
}

/* Peer 1 is a step ahead, so it is put out, and learns why. */
static void ahead(struct peer *peer)
{
    const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;
    const pcclReduceDescriptor_t sum = operation(1, pcclInt32, pcclSum, 1);
    struct model *mine = model(1, 1);
    pcclAsyncReduceOp_t handle;
    int32_t one = 1;

    OK(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, NULL));
    mine->state.revision = peer->index == 1 ? 4 : 2;
    if (peer->index != 1) {
        OK(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, NULL));
        release(mine);
        return;
    }
    FAILS(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, NULL), pcclMasterConnectionFailed, "revision 4");
    /* And whatever it calls, until it connects again. */
    FAILS(pcclAllReduce(&one, &one, &sum, peer->comm, NULL), pcclMasterConnectionFailed, "revision 4");
    OK(pcclAllReduceAsync(&one, &one, &sum, peer->comm, &handle));
    FAILS(pcclAwaitAsyncReduce(&handle, NULL), pcclMasterConnectionFailed, "revision 4");
    FAILS(pcclUpdateTopology(peer->comm), pcclMasterConnectionFailed, "revision 4");
    FAILS(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, NULL), pcclMasterConnectionFailed, "revision 4");
    CHECK(one == 1);
    release(mine);
}

/* Peer 1 has tensors of another kind than most, so it is put out, and learns why. */
static void other_tensors(struct peer *peer)
{
    const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;
    struct model *mine = model(1, 1);

    if (peer->index == 1) {
        mine->infos[1].name = "quarters";
        FAILS(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, NULL), pcclMasterConnectionFailed, "it lacks \"halves\"");
    } else {
        OK(pcclSynchronizeSharedState(peer->comm, &mine->state, popular, NULL));
    }
    release(mine);
}

static void alone(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = running_master(&address);
    pcclComm_t *comm = communicator(address);
    struct model *mine = model(1, 1);
    const pcclSharedStateSyncStrategy_t popular = PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR;

    CHECK(pcclSynchronizeSharedState(comm, &mine->state, popular, NULL) == pcclInvalidUsage);
    OK(pcclConnect(comm));
    CHECK(pcclSynchronizeSharedState(comm, &mine->state, popular, NULL) == pcclTooFewPeers);
    OK(pcclDestroyCommunicator(comm));
    end_master(master);
    release(mine);
}

int main(void)
{
    hang_is_failure(100);
    OK(pcclInit());
    together(3, synchronize);
    together(2, wrong_tensors);
    together(3, ahead);
    together(3, other_tensors);
    alone();
    puts("shared_state.c: everything as the header says");
    return 0;
}

/*
 * pccl: fault-tolerant collective communication over the internet.
 *
 * Every function may be called from any thread, never panics or throws, checks its pointers for NULL and its
 * enums for range, and writes its outputs only on success. Handles that a create function gave out are freed by
 * the destroy function of the same name, once, and not used in another thread meanwhile.
 */
#ifndef PCCL_H
#define PCCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ccoip_inet.h"

#if defined(_WIN32)
#define PCCL_EXPORT __declspec(dllimport)
#elif defined(__GNUC__)
#define PCCL_EXPORT __attribute__((visibility("default")))
#else
#define PCCL_EXPORT
#endif

/** Marks pointers that may be NULL; all others may not. */
#define PCCL_NULLABLE

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pcclResult_t {
    pcclSuccess = 0,
    /** pcclInit was not called. */
    pcclNotInitialized = 1,
    /** A bug of the library. */
    pcclInternalError = 2,
    pcclInvalidArgument = 3,
    /** The right arguments at the wrong moment. */
    pcclInvalidUsage = 4,
    /** An all-reduce in a group of fewer than two. */
    pcclTooFewPeers = 5,
    pcclMasterConnectionFailed = 6,
    pcclRankConnectionFailed = 7,
    /** Aborted because membership changed; the input is what it was: call again. */
    pcclRankConnectionLost = 8,
    pcclNoSharedStateAvailable = 9,
    /** A phase call while asynchronous operations are in flight. */
    pcclPendingAsyncOps = 10,
    pcclUpdateTopologyFailed = 11,
    pcclTopologyOptimizationFailed = 12
} pcclResult_t;

typedef enum pcclDataType_t {
    pcclUint8 = 0,
    pcclInt8 = 1,
    pcclInt16 = 2,
    pcclUint16 = 3,
    pcclUint32 = 4,
    pcclInt32 = 5,
    pcclUint64 = 6,
    pcclInt64 = 7,
    pcclFloat16 = 8,
    pcclBFloat16 = 9,
    pcclFloat = 10,
    pcclDouble = 11
} pcclDataType_t;

typedef enum pcclRedOp_t {
    pcclSum = 0,
    pcclAvg = 1,
    pcclProd = 2,
    pcclMax = 3,
    pcclMin = 4
} pcclRedOp_t;

typedef enum pcclAttribute_t {
    /** Accepted peers of every group. */
    PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE = 1,
    /** Accepted peers of this communicator's group. */
    PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE = 2,
    PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS = 3,
    PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE = 4
} pcclAttribute_t;

typedef enum pcclDistributionHint_t {
    pcclDistributionNone = 0,
    pcclDistributionNormal = 1,
    pcclDistributionUniform = 2
} pcclDistributionHint_t;

/** Only pcclQuantNone works in this version; the others are refused with pcclInvalidArgument. */
typedef enum pcclQuantizationAlgorithm_t {
    pcclQuantNone = 0,
    pcclQuantMinMax = 1,
    pcclQuantZeroPointScale = 2
} pcclQuantizationAlgorithm_t;

typedef struct pcclComm_t pcclComm_t;
typedef struct pcclMasterInstanceState_t pcclMasterInstance_t;

typedef struct pcclCommCreateParams_t {
    ccoip_socket_address_t master_address;
    uint32_t peer_group;
    /** Connections of each pair; 0: the default. */
    uint32_t p2p_connection_pool_size;
} pcclCommCreateParams_t;

typedef struct pcclReduceInfo_t {
    uint32_t local_world_size;
    uint64_t tx_bytes;
    uint64_t rx_bytes;
} pcclReduceInfo_t;

typedef struct pcclReduceOperandDescriptor_t {
    pcclDataType_t datatype;
    pcclDistributionHint_t distribution_hint;
} pcclReduceOperandDescriptor_t;

typedef struct pcclQuantizationOptions_t {
    /** Ignored if the algorithm is pcclQuantNone. */
    pcclDataType_t quantized_datatype;
    pcclQuantizationAlgorithm_t algorithm;
} pcclQuantizationOptions_t;

typedef struct pcclReduceDescriptor_t {
    /** Elements, at least one. */
    size_t count;
    pcclRedOp_t op;
    /** Names the operation among those in flight. */
    uint64_t tag;
    pcclReduceOperandDescriptor_t src_descriptor;
    pcclQuantizationOptions_t quantization_options;
} pcclReduceDescriptor_t;

/** An all-reduce in flight; awaited exactly once, before its communicator is destroyed. */
typedef struct pcclAsyncReduceOp_t {
    pcclComm_t *comm;
    uint64_t tag;
} pcclAsyncReduceOp_t;

/** Once per process, before any call on a communicator; calling it again does nothing. */
PCCL_EXPORT pcclResult_t pcclInit(void);

/** Makes a communicator. No connection is made. */
PCCL_EXPORT pcclResult_t pcclCreateCommunicator(const pcclCommCreateParams_t *params, pcclComm_t **comm_out);

/** Before pcclConnect: pcclInvalidUsage. Does not block. */
PCCL_EXPORT pcclResult_t pcclGetAttribute(const pcclComm_t *comm, pcclAttribute_t attribute, int *attribute_out);

/** Leaves the run, ends every thread and socket of the communicator, frees it. Operations in flight abort first. */
PCCL_EXPORT pcclResult_t pcclDestroyCommunicator(pcclComm_t *comm);

/**
 * Blocks until accepted into the run: at once for its first peer, for others when all accepted peers next call
 * pcclUpdateTopology. After a failure it may be called again.
 */
PCCL_EXPORT pcclResult_t pcclConnect(pcclComm_t *comm);

/** Blocks until every accepted peer of the run calls it; admits the peers that wait. */
PCCL_EXPORT pcclResult_t pcclUpdateTopology(pcclComm_t *comm);

/** Blocks until every accepted peer of the run calls it; all get the same answer. */
PCCL_EXPORT pcclResult_t pcclArePeersPending(const pcclComm_t *comm, bool *pending_out);

/**
 * Combines `sendbuf` of all peers of the group into `recvbuf` of each; the same bits at all. Blocks.
 * The buffers are the same memory (in place) or disjoint. Whatever fails, `sendbuf` is what it was before.
 */
PCCL_EXPORT pcclResult_t pcclAllReduce(const void *sendbuf, void *recvbuf,
                                       const pcclReduceDescriptor_t *descriptor, const pcclComm_t *comm,
                                       pcclReduceInfo_t *PCCL_NULLABLE reduce_info_out);

/** Starts it and returns. The buffers belong to the library until pcclAwaitAsyncReduce returns. */
PCCL_EXPORT pcclResult_t pcclAllReduceAsync(const void *sendbuf, void *recvbuf,
                                            const pcclReduceDescriptor_t *descriptor, const pcclComm_t *comm,
                                            pcclAsyncReduceOp_t *reduce_handle_out);

/** Blocks until the operation has ended. A second await of one handle: pcclInvalidArgument. */
PCCL_EXPORT pcclResult_t pcclAwaitAsyncReduce(const pcclAsyncReduceOp_t *reduce_handle,
                                              pcclReduceInfo_t *PCCL_NULLABLE reduce_info_out);

/** Makes a master that will listen there. No socket is opened. Port 0: any free one. */
PCCL_EXPORT pcclResult_t pcclCreateMaster(ccoip_socket_address_t listen_address,
                                          pcclMasterInstance_t **master_handle_out);

/** Listens and serves in the background; returns once the port is open. */
PCCL_EXPORT pcclResult_t pcclRunMaster(pcclMasterInstance_t *master_instance);

/** Where a running master listens: the port it found, if it was created with port 0. */
PCCL_EXPORT pcclResult_t pcclMasterGetAddress(const pcclMasterInstance_t *master_instance,
                                              ccoip_socket_address_t *address_out);

/** Tells a running master to stop; pcclMasterAwaitTermination returns once it has. */
PCCL_EXPORT pcclResult_t pcclInterruptMaster(pcclMasterInstance_t *master_instance);

/** Blocks until the master was interrupted and has stopped. */
PCCL_EXPORT pcclResult_t pcclMasterAwaitTermination(pcclMasterInstance_t *master_instance);

/** Stops the master if it runs, and frees it. */
PCCL_EXPORT pcclResult_t pcclDestroyMaster(pcclMasterInstance_t *master_instance);

/** A code in words; never NULL, never freed. */
PCCL_EXPORT const char *pcclGetErrorString(pcclResult_t result);

/**
 * The last failure in this thread in words: the peer, the operation, the reason. Cut to `len` bytes, the closing zero
 * included; empty if nothing failed yet.
 */
PCCL_EXPORT pcclResult_t pcclGetLastError(char *buffer, size_t len);

#ifdef __cplusplus
}
#endif

#endif /* PCCL_H */

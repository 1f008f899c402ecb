//! The enums of `include/pccl.h`. The library itself takes and gives plain integers, since C can put any integer there;
//! these stand here for the header. Tests hold them against `include/pccl.layout`, and against the core where that has the
//! same numbers; the rest is decoded by the values that stand here.

#![allow(non_camel_case_types)]

use std::ffi::c_int;

/// What a call gives back, as a `pcclResult_t`.
pub type ResultCode = c_int;
pub type DataTypeCode = c_int;
pub type DeviceTypeCode = c_int;
pub type RedOpCode = c_int;
pub type AttributeCode = c_int;
pub type DistributionHintCode = c_int;
pub type SyncStrategyCode = c_int;
pub type QuantizationAlgorithmCode = c_int;

/// What became of a call. pcclGetErrorString has each in words, pcclGetLastError the reason of the last failure.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclResult_t {
    pcclSuccess = 0,
    /// pcclInit was not called.
    pcclNotInitialized = 1,
    /// A bug of the library.
    pcclInternalError = 2,
    /// NULL, a number out of range, memory that overlaps in part, a tag that is in flight, peers that disagree.
    pcclInvalidArgument = 3,
    /// The right arguments at the wrong moment: not connected, connected twice, calls that can never meet, a forked child.
    pcclInvalidUsage = 4,
    /// Alone in the group.
    pcclTooFewPeers = 5,
    /// The master cannot be reached, was lost for good, refused this peer, or put it out of the run.
    pcclMasterConnectionFailed = 6,
    /// This peer's data port cannot be had. Pairs without a connection are planned around, and are no error.
    pcclRankConnectionFailed = 7,
    /// Aborted because membership changed; the input is what it was: call again.
    pcclRankConnectionLost = 8,
    /// Nobody offers a shared state.
    pcclNoSharedStateAvailable = 9,
    /// A phase call while asynchronous operations are in flight: await them first.
    pcclPendingAsyncOps = 10,
    /// Call again. Not returned by this version: an update that a peer dies under is done again by the library.
    pcclUpdateTopologyFailed = 11,
    /// The run goes on in the order it has: go on, or call again.
    pcclTopologyOptimizationFailed = 12,
    /// Not done in time; it goes on. Codes from 100 on are this library's own.
    pcclTimeout = 100,
}

/// Types of elements.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclDataType_t {
    pcclUint8 = 0,
    pcclInt8 = 1,
    pcclInt16 = 2,
    pcclUint16 = 3,
    pcclUint32 = 4,
    pcclInt32 = 5,
    pcclUint64 = 6,
    pcclInt64 = 7,
    /// IEEE 754 binary16.
    pcclFloat16 = 8,
    pcclBFloat16 = 9,
    pcclFloat = 10,
    pcclDouble = 11,
}

/// Where memory is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclDeviceType_t {
    pcclDeviceCpu = 0,
    /// Refused with pcclInvalidArgument by builds without CUDA: see pcclGetBuildInfo.
    pcclDeviceCuda = 1,
}

/// How elements are combined.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclRedOp_t {
    pcclSum = 0,
    /// The sum by the number of peers that took part; of integers towards zero.
    pcclAvg = 1,
    pcclProd = 2,
    pcclMax = 3,
    pcclMin = 4,
}

/// Numbers of a run, as of the last call that returned: the same at all peers of a group after the same call.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclAttribute_t {
    /// Accepted peers of every group.
    PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE = 1,
    /// Accepted peers of this communicator's group.
    PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE = 2,
    /// Groups with accepted peers.
    PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS = 3,
    /// Accepted peers of the group that has most.
    PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE = 4,
}

/// How the elements are distributed. Checked for range, and without effect.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclDistributionHint_t {
    pcclDistributionNone = 0,
    pcclDistributionNormal = 1,
    pcclDistributionUniform = 2,
}

/// What a peer does in pcclSynchronizeSharedState.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclSharedStateSyncStrategy_t {
    /// The content most peers hold wins and replaces every other. If one peer says so, all must.
    PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR = 0,
    /// Receives what others hold; has no vote.
    PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY = 1,
    /// Its content must win; it never receives.
    PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY = 2,
}

/// What travels instead of the elements, of pcclFloat16, pcclBFloat16, pcclFloat and pcclDouble (docs/QUANTIZATION.md), in
/// every operation but pcclProd, where nothing else is said. The others, and integers, are refused with pcclInvalidArgument.
/// From 3 on they are this library's own, and the quantized data type is ignored.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum pcclQuantizationAlgorithm_t {
    pcclQuantNone = 0,
    /// To pcclUint8, pcclInt8, pcclUint16 or pcclInt16.
    pcclQuantMinMax = 1,
    /// The same, with a code that stands for 0.
    pcclQuantZeroPointScale = 2,
    pcclQuantBits4 = 3,
    pcclQuantFloat8E4M3 = 4,
    pcclQuantFloat8E5M2 = 5,
    /// pcclFloat as f16, products too.
    pcclQuantFloat16 = 6,
    /// pcclFloat as bf16, products too.
    pcclQuantBFloat16 = 7,
}

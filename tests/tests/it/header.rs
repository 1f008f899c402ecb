//! `include/pccl.h` against the library: the same numbers, the same functions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use pccl_core::error::ErrorKind;
use pccl_core::types::{DType, Quantization, ReduceOp, SyncStrategy};

use crate::architecture::{files, root};

fn header() -> String {
    // Long declarations begin on a line of their own.
    fs::read_to_string(root().join("include/pccl.h")).unwrap().replace("PCCL_EXPORT\n", "PCCL_EXPORT ")
}

/// Every enumerator with its value.
fn enumerators(header: &str) -> BTreeMap<&str, i32> {
    let number = |line: &'_ str| -> Option<i32> { line.trim().trim_end_matches(',').parse().ok() };
    header
        .lines()
        .filter_map(|line| line.trim().split_once(" = "))
        .filter_map(|(name, value)| Some((name, number(value)?)))
        .collect()
}

/// The words right before a `(`, at places that `take` picks out of a line.
fn called(text: &str, take: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| take(line));
    let names = lines.filter_map(|line| line.split('(').next()?.rsplit([' ', '*']).next());
    names.map(ToString::to_string).collect()
}

#[test]
fn the_numbers_of_the_header_are_those_of_the_library() {
    let header = header();
    let numbers = enumerators(&header);
    let dtypes = [
        ("pcclUint8", DType::U8),
        ("pcclInt8", DType::I8),
        ("pcclInt16", DType::I16),
        ("pcclUint16", DType::U16),
        ("pcclUint32", DType::U32),
        ("pcclInt32", DType::I32),
        ("pcclUint64", DType::U64),
        ("pcclInt64", DType::I64),
        ("pcclFloat16", DType::F16),
        ("pcclBFloat16", DType::BF16),
        ("pcclFloat", DType::F32),
        ("pcclDouble", DType::F64),
    ];
    let ops = [
        ("pcclSum", ReduceOp::Sum),
        ("pcclAvg", ReduceOp::Avg),
        ("pcclProd", ReduceOp::Prod),
        ("pcclMax", ReduceOp::Max),
        ("pcclMin", ReduceOp::Min),
    ];
    let kinds = [
        ("pcclNotInitialized", ErrorKind::NotInitialized),
        ("pcclInternalError", ErrorKind::Internal),
        ("pcclInvalidArgument", ErrorKind::InvalidArgument),
        ("pcclInvalidUsage", ErrorKind::InvalidUsage),
        ("pcclTooFewPeers", ErrorKind::TooFewPeers),
        ("pcclMasterConnectionFailed", ErrorKind::MasterConnectionFailed),
        ("pcclRankConnectionFailed", ErrorKind::PeerConnectionFailed),
        ("pcclRankConnectionLost", ErrorKind::Aborted),
        ("pcclNoSharedStateAvailable", ErrorKind::NoSharedStateAvailable),
        ("pcclPendingAsyncOps", ErrorKind::PendingAsyncOps),
        ("pcclUpdateTopologyFailed", ErrorKind::UpdateTopologyFailed),
        ("pcclTopologyOptimizationFailed", ErrorKind::TopologyOptimizationFailed),
    ];
    assert_eq!((dtypes.len(), ops.len()), (DType::ALL.len(), ReduceOp::ALL.len()));
    let library = dtypes.iter().map(|(name, dtype)| (*name, *dtype as i32));
    let library = library.chain(ops.iter().map(|(name, op)| (*name, *op as i32)));
    let library = library.chain(kinds.iter().map(|(name, kind)| (*name, kind.code())));
    for (name, number) in library.chain([("pcclSuccess", 0)]) {
        assert_eq!(numbers.get(name), Some(&number), "{name}");
    }
    // Of these the library takes the number.
    let number = |name: &str| u8::try_from(numbers[name]).unwrap();
    for (name, strategy) in [
        ("ENFORCE_POPULAR", SyncStrategy::EnforcePopular),
        ("RECEIVE_ONLY", SyncStrategy::ReceiveOnly),
        ("SEND_ONLY", SyncStrategy::SendOnly),
    ] {
        let number = number(&format!("PCCL_SHARED_STATE_SYNC_STRATEGY_{name}"));
        assert_eq!(SyncStrategy::from_code(number), Some(strategy), "{name}");
    }
    for (name, quantization) in [
        ("pcclQuantNone", Quantization::None),
        ("pcclQuantMinMax", Quantization::MinMax(DType::U8)),
        ("pcclQuantZeroPointScale", Quantization::ZeroPointScale(DType::U8)),
        ("pcclQuantBits4", Quantization::Bits4),
        ("pcclQuantFloat8E4M3", Quantization::Float8E4M3),
        ("pcclQuantFloat8E5M2", Quantization::Float8E5M2),
        ("pcclQuantFloat16", Quantization::Float16),
        ("pcclQuantBFloat16", Quantization::BFloat16),
    ] {
        assert_eq!(Quantization::from_codes(number(name), Some(DType::U8)), Some(quantization), "{name}");
    }
}

/// The fields of every struct that the text defines, as `type.field`.
fn fields(header: &str) -> Vec<String> {
    let structs = header.split("typedef struct ").skip(1).filter_map(|rest| {
        let (name, body) = rest.split_once(" {\n")?;
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some((name, body))
    });
    let mut fields = Vec::new();
    for (name, body) in structs {
        // The programs' name of the one struct whose tag is another.
        let name = name.replace("pcclReduceSingleDescriptor_t", "pcclReduceOpDescriptor_t");
        let lines = body.split("\n} ").next().unwrap().lines().map(str::trim);
        for line in lines.filter(|line| line.ends_with(';') && !line.starts_with('*')) {
            let field = line.trim_end_matches(';').split('[').next().unwrap();
            fields.push(format!("{name}.{}", field.rsplit([' ', '*']).next().unwrap()));
        }
    }
    fields
}

/// So that the comparison of `include/pccl.layout` with what C compilers say is one of everything.
#[test]
fn the_list_of_the_layout_has_all_that_the_headers_have() {
    let list = fs::read_to_string(root().join("include/pccl.layout")).unwrap();
    let listed: BTreeSet<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut found = 0;
    for file in ["pccl.h", "ccoip.h", "ccoip_inet.h"] {
        let header = fs::read_to_string(root().join("include").join(file)).unwrap();
        let macros = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
        let guards = |name: &&str| !["PCCL_H", "CCOIP_H", "CCOIP_INET_H"].contains(name);
        let names = macros.filter(guards).map(str::to_owned);
        let names = names.chain(enumerators(&header).into_keys().map(str::to_owned));
        for name in names.chain(fields(&header)) {
            assert!(listed.contains(name.as_str()), "{file} has {name}, which include/pccl.layout lacks");
            found += 1;
        }
    }
    let single = |line: &&str| !line.starts_with("sizeof(");
    assert_eq!(
        found - 2,
        list.lines().filter(single).count(),
        "PCCL_EXPORT is defined for three kinds of compilers"
    );
}

#[test]
fn the_functions_of_the_header_are_those_of_the_library() {
    let declared = called(&header(), |line| line.starts_with("PCCL_EXPORT "));
    let root = root();
    let mut exported = BTreeSet::new();
    for file in files(&root, "pccl-ffi/src", &["rs"]) {
        let text = fs::read_to_string(root.join(file)).unwrap();
        exported.extend(called(&text, |line| line.contains("extern \"C\" fn pccl")));
    }
    assert!(declared.contains("pcclAllReduce"), "{declared:?}");
    assert_eq!(declared, exported);
}

/// So that no panic crosses the border. `pcclGetErrorString` looks into a table, and cannot panic.
#[test]
fn every_function_goes_through_the_guard() {
    let root = root();
    for file in files(&root, "pccl-ffi/src", &["rs"]) {
        let text = fs::read_to_string(root.join(file)).unwrap();
        for function in text.split("extern \"C\" fn ").skip(1).filter(|rest| rest.starts_with("pccl")) {
            let body = function.split("\n}\n").next().unwrap();
            let name = body.split('(').next().unwrap();
            // Of `entry` and `timed_entry`, under the name that the last error begins with.
            let guarded = body.contains(&format!("entry(\"{name}\","));
            assert!(guarded || name == "pcclGetErrorString", "{name}");
        }
    }
}

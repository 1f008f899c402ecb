use super::*;
use crate::mem::{Buffers, Memory, TestMemory, lend};
use crate::types::{DType, SyncStrategy, TensorKey};

fn key(name: &str, count: usize, may_differ: bool) -> TensorKey {
    TensorKey { name: name.to_owned(), dtype: DType::U8, count: count as u64, may_differ }
}

/// Runs `f` with tensors over these bytes, in this order.
fn with<R>(data: &mut [(&str, Vec<u8>, bool)], f: impl FnOnce(Result<Tensors, TensorsError>) -> R) -> R {
    let keys: Vec<TensorKey> =
        data.iter().map(|(name, bytes, differ)| key(name, bytes.len(), *differ)).collect();
    let memory: Vec<Memory<'_>> =
        data.iter_mut().map(|(_, bytes, _)| Memory::in_place(bytes.as_mut_slice())).collect();
    lend(|lending| {
        let buffers: Vec<Buffers> = memory.iter().map(|m| lending.memory(m).unwrap()).collect();
        f(Tensors::new(keys.into_iter().zip(buffers).collect()))
    })
}

fn survey(data: &[(&str, Vec<u8>, bool)], block_bytes: usize, threads: usize) -> Survey {
    with(&mut data.to_vec(), |tensors| tensors.unwrap().survey(block_bytes, threads))
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn the_survey_does_not_depend_on_threads_nor_on_the_order_given() {
    let mut data: Vec<(&str, Vec<u8>, bool)> = vec![
        ("b", bytes(1000, 1), false),
        ("", bytes(0, 0), false),
        ("a", bytes(64, 2), true),
        ("empty", Vec::new(), false),
        ("z", bytes(1, 3), false),
    ];
    let one = survey(&data, 8, 1);
    assert_eq!(one, survey(&data, 8, 7));
    data.reverse();
    assert_eq!(one, survey(&data, 8, 3));
    assert_eq!(one.blocks(2).len(), 125);
    assert!(one.blocks(0).is_empty() && one.blocks(3).is_empty());
}

#[test]
fn no_more_threads_hash_than_may_and_no_more_than_there_is_work_for() {
    // 4 MiB of blocks of 64 KiB are four units of work.
    for (size_bytes, threads, took_part) in [
        (4 << 20, 1, 1),
        (4 << 20, 3, 3),
        (4 << 20, 4, 4),
        (4 << 20, 99, 4),
        (64 << 10, 8, 1),
        (0, 8, 1),
        (0, 0, 1),
    ] {
        let mut data = [("x", vec![7; size_bytes], false)];
        let count = with(&mut data, |tensors| tensors.unwrap().survey_by(64 << 10, threads).1);
        assert_eq!(count, took_part, "{size_bytes} bytes, {threads} threads");
    }
}

#[test]
fn every_digest_is_the_one_the_protocol_defines() {
    let data = [("x", bytes(20, 9), false), ("y", bytes(3, 4), true)];
    let survey = survey(&data, 8, 2);
    let hash = |bytes: &[u8]| crate::kernel::hash::digest(bytes);
    let blocks: Vec<_> = data[0].1.chunks(8).map(hash).collect();
    assert_eq!(survey.blocks(0), blocks);
    let mut of_x = [8u64.to_le_bytes(), 20u64.to_le_bytes()].concat();
    blocks.iter().for_each(|block| of_x.extend(block.0));
    let mut of_y = [8u64.to_le_bytes(), 3u64.to_le_bytes()].concat();
    of_y.extend(hash(&data[1].1).0);
    assert_eq!(survey.digests(), [hash(&of_x), hash(&of_y)]);
    let offer = survey.offer(7, SyncStrategy::SendOnly, false);
    assert_eq!(offer.content, hash(&hash(&of_x).0));
    assert_eq!(offer.full, hash(&[hash(&of_x).0, hash(&of_y).0].concat()));
    let keys = [&2u32.to_le_bytes()[..], &named("x", 20, 0), &named("y", 3, 1)].concat();
    assert_eq!((offer.keys, offer.tensors, offer.size_bytes), (hash(&keys), 2, 23));
}

fn named(name: &str, count: u64, may_differ: u8) -> Vec<u8> {
    let len = (name.len() as u32).to_le_bytes();
    [&len[..], name.as_bytes(), &[DType::U8 as u8], &count.to_le_bytes(), &[may_differ]].concat()
}

#[test]
fn any_byte_changes_the_content_and_only_those_that_count_do() {
    let data = vec![("p", bytes(100, 5), false), ("q", bytes(100, 6), true)];
    let of =
        |data: &[(&str, Vec<u8>, bool)]| survey(data, 16, 1).offer(0, SyncStrategy::EnforcePopular, false);
    let before = of(&data);
    for at in [0, 15, 16, 99] {
        let mut other = data.clone();
        other[0].1[at] ^= 1;
        let after = of(&other);
        assert!(after.content != before.content && after.full != before.full && after.keys == before.keys);
        let mut other = data.clone();
        other[1].1[at] ^= 1;
        assert!(of(&other).content == before.content && of(&other).full != before.full);
    }
}

#[test]
fn the_same_bytes_cut_otherwise_are_other_tensors() {
    let of =
        |data: &[(&str, Vec<u8>, bool)]| survey(data, 16, 1).offer(0, SyncStrategy::EnforcePopular, false);
    let one = of(&[("a", bytes(32, 0), false), ("b", Vec::new(), false)]);
    let two = of(&[("a", bytes(16, 0), false), ("b", bytes(32, 0)[16..].to_vec(), false)]);
    assert!(one.keys != two.keys && one.content != two.content);
}

#[test]
fn an_update_equals_a_new_survey() {
    let mut data = vec![("a", bytes(50, 1), false), ("b", bytes(40, 2), true)];
    with(&mut data, |tensors| {
        let mut tensors = tensors.unwrap();
        let mut survey = tensors.survey(16, 1);
        tensors.write(0, 40, 3).fill(9);
        tensors.write(1, 0, 40).fill(8);
        survey.follow(&tensors, 0, [(2, None)]);
        let known = crate::kernel::hash::digest(&[8; 16]);
        survey.follow(&tensors, 1, [(0, Some(known)), (1, None), (2, None)]);
        survey.sum_all(&tensors);
        assert_eq!(survey, tensors.survey(16, 2));
    });
}

#[test]
fn thousands_of_small_tensors_and_a_large_one() {
    let names: Vec<String> = (0..5000).map(|n| format!("layer.{n}")).collect();
    let mut data: Vec<(&str, Vec<u8>, bool)> =
        names.iter().map(|n| (n.as_str(), bytes(n.len(), 3), false)).collect();
    data.push(("large", bytes(1 << 20, 4), false));
    assert_eq!(survey(&data, 4096, 1), survey(&data, 4096, 4));
}

#[test]
fn what_cannot_be_a_state_is_named() {
    let error =
        |data: &[(&str, Vec<u8>, bool)]| with(&mut data.to_vec(), |tensors| tensors.map(|_| ()).unwrap_err());
    let twice = [("a", bytes(1, 0), false), ("b", bytes(1, 0), false), ("a", bytes(2, 0), true)];
    assert_eq!(error(&twice), TensorsError::Duplicate { name: "a".to_owned() });
    let long = "n".repeat(1025);
    assert_eq!(error(&[(&long, bytes(1, 0), false)]), TensorsError::LongName { index: 0, len: 1025 });
    let mut data = [0u8; 5];
    let memory = Memory::in_place(&mut data);
    lend(|lending| {
        let given =
            vec![(TensorKey { dtype: DType::F32, ..key("w", 1, false) }, lending.memory(&memory).unwrap())];
        let error = Tensors::new(given).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("\"w\" (1 × f32) does not fit its memory of 5 bytes"), "{error}");
    });
}

#[test]
fn results_go_back_in_the_callers_order() {
    let mut data = vec![("c", bytes(3, 0), false), ("a", bytes(1, 0), false), ("b", bytes(2, 0), false)];
    with(&mut data, |tensors| {
        let tensors = tensors.unwrap();
        let sizes: Vec<usize> = (0..3).map(|t| tensors.size_bytes(t)).collect();
        assert_eq!((sizes.clone(), tensors.in_given_order(&sizes)), (vec![1, 2, 3], vec![3, 1, 2]));
    });
}

#[test]
fn tensors_may_share_all_of_their_memory_or_none() {
    let mut memory = TestMemory::new(&[0; 24], true);
    let mut tensors = |places: [(usize, usize); 2]| {
        let given = ["b", "a"].into_iter().zip(places);
        Tensors::new(
            given.map(|(name, (from, len))| (key(name, len, false), memory.lend_part(from, len))).collect(),
        )
    };
    assert_eq!(tensors([(0, 24), (0, 24)]).unwrap().tied(), [(0, 1)]);
    assert_eq!(tensors([(0, 8), (8, 16)]).unwrap().tied(), []);
    assert_eq!(tensors([(0, 0), (0, 16)]).unwrap().tied(), []);
    assert!(matches!(tensors([(0, 9), (8, 16)]), Err(TensorsError::Overlap { .. })));
    assert!(matches!(tensors([(0, 8), (0, 16)]), Err(TensorsError::Overlap { .. })));
}

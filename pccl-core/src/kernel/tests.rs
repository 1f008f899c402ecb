use super::float_mode::imp;
use super::*;

#[test]
fn the_modes_of_the_host_program_change_no_bits_and_are_restored() {
    let tiny = f32::from_bits(3).to_le_bytes();
    let mut sum = tiny;
    let host = imp::read();
    imp::write(imp::FLUSH_AND_ROUND_UP);
    reduce_into(ReduceOp::Sum, DType::F32, &mut sum, &tiny);
    let after = imp::read();
    imp::write(host);
    assert_eq!(u32::from_le_bytes(sum), 6);
    assert_eq!(after, imp::FLUSH_AND_ROUND_UP);
}

//! What a DLPack capsule says of its tensor. The capsule stays whole: whoever holds it holds the memory.

use std::ffi::{CStr, c_void};

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;

const PLAIN: &CStr = c"dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const MAJOR: u32 = 1;
const READ_ONLY: u64 = 1;
const MAX_DIMENSIONS: i32 = 64;

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    /// Null: C-contiguous.
    strides: *const i64,
    byte_offset: u64,
}

#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: *mut c_void,
    flags: u64,
    tensor: Tensor,
}

/// Address, elements, C-contiguous or not, kind of type, its bits, its lanes, kind of device, read-only or not.
type Description = (usize, u64, bool, u8, u8, u16, i32, bool);

#[pyfunction]
pub fn dlpack(capsule: &Bound<'_, PyAny>) -> PyResult<Description> {
    let plain = pointer(capsule, PLAIN).cast::<Tensor>();
    // SAFETY: a capsule of this name holds a DLManagedTensor, whose first member is the tensor, and outlives this call.
    if let Some(tensor) = unsafe { plain.as_ref() } {
        return describe(tensor, false);
    }
    // SAFETY: as above, of DLManagedTensorVersioned; another major version may only be read up to its deleter.
    let Some(versioned) = (unsafe { pointer(capsule, VERSIONED).cast::<Versioned>().as_ref() }) else {
        return Err(PyValueError::new_err("no DLPack capsule, or one that was used"));
    };
    if versioned.major != MAJOR {
        return Err(PyValueError::new_err(format!(
            "DLPack {}.{} is not known",
            versioned.major, versioned.minor
        )));
    }
    describe(&versioned.tensor, versioned.flags & READ_ONLY != 0)
}

/// Null if it is no capsule of this name.
fn pointer(capsule: &Bound<'_, PyAny>, name: &CStr) -> *mut c_void {
    // SAFETY: any object may be asked, and the name is a C string.
    let valid = unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), name.as_ptr()) } != 0;
    if !valid {
        return std::ptr::null_mut();
    }
    // SAFETY: it was just found to be a capsule of this name.
    unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), name.as_ptr()) }
}

fn describe(tensor: &Tensor, read_only: bool) -> PyResult<Description> {
    if !(0..=MAX_DIMENSIONS).contains(&tensor.ndim) {
        return Err(PyValueError::new_err(format!("a tensor of {} dimensions", tensor.ndim)));
    }
    let shape = dimensions(tensor.shape, tensor.ndim).unwrap_or_default();
    let strides = dimensions(tensor.strides, tensor.ndim);
    let count = shape.iter().try_fold(1u64, |count, length| count.checked_mul(u64::try_from(*length).ok()?));
    let count = count.ok_or_else(|| PyValueError::new_err("a tensor of impossible shape"))?;
    let contiguous = strides.is_none_or(|strides| is_contiguous(shape, strides));
    let address = tensor.data as usize + tensor.byte_offset as usize;
    Ok((address, count, contiguous, tensor.code, tensor.bits, tensor.lanes, tensor.device_type, read_only))
}

fn dimensions<'a>(list: *const i64, ndim: i32) -> Option<&'a [i64]> {
    if list.is_null() {
        return None;
    }
    // SAFETY: DLPack promises `ndim` numbers here; the caller reads them while it holds the tensor.
    Some(unsafe { std::slice::from_raw_parts(list, usize::try_from(ndim).unwrap_or(0)) })
}

fn is_contiguous(shape: &[i64], strides: &[i64]) -> bool {
    let mut expected = 1i64;
    shape.iter().zip(strides).rev().all(|(length, stride)| {
        let fits = *length == 1 || *stride == expected;
        expected = expected.saturating_mul(*length);
        fits
    }) || shape.contains(&0)
}

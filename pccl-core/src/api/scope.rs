//! Asynchronous all-reduces over borrowed memory.

use super::communicator::no_buffers;
use super::{Communicator, Work};
use crate::error::Result;
use crate::mem::{Element, Lending};
use crate::types::{OpDescriptor, Quantization, ReduceOp, Tag};

/// Within it several all-reduces can be under way; made by `Communicator::scope`, which ends when all have ended.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    communicator: &'scope Communicator,
    lending: &'scope Lending<'scope, 'env>,
}

impl<'scope, 'env> Scope<'scope, 'env> {
    pub(super) fn new(communicator: &'scope Communicator, lending: &'scope Lending<'scope, 'env>) -> Self {
        Scope { communicator, lending }
    }

    /// Starts an all-reduce as `Communicator::all_reduce` does, and returns at once.
    pub fn all_reduce<T: Element>(
        &self,
        send: &'scope [T],
        recv: &'scope mut [T],
        op: ReduceOp,
        tag: Tag,
    ) -> Result<Work> {
        self.all_reduce_quantized(send, recv, op, Quantization::None, tag)
    }

    /// The same with something else on the wire than the elements (docs/QUANTIZATION.md): `InvalidArgument` with the reason
    /// where type or operation do not allow it. All peers must name the same.
    pub fn all_reduce_quantized<T: Element>(
        &self,
        send: &'scope [T],
        recv: &'scope mut [T],
        op: ReduceOp,
        quantization: Quantization,
        tag: Tag,
    ) -> Result<Work> {
        self.communicator.running()?;
        let descriptor = of_elements(send, op, quantization);
        let buffers = self.lending.buffers(send, recv).map_err(|error| no_buffers(tag, error))?;
        self.communicator.all_reduce_buffers(buffers, descriptor, tag)
    }

    /// Starts an all-reduce as `Communicator::all_reduce_in_place` does, and returns at once.
    pub fn all_reduce_in_place<T: Element>(
        &self,
        data: &'scope mut [T],
        op: ReduceOp,
        tag: Tag,
    ) -> Result<Work> {
        self.all_reduce_quantized_in_place(data, op, Quantization::None, tag)
    }

    /// As `all_reduce_quantized`, in place.
    pub fn all_reduce_quantized_in_place<T: Element>(
        &self,
        data: &'scope mut [T],
        op: ReduceOp,
        quantization: Quantization,
        tag: Tag,
    ) -> Result<Work> {
        self.communicator.running()?;
        let descriptor = of_elements(data, op, quantization);
        let buffers = self.lending.buffers_in_place(data).map_err(|error| no_buffers(tag, error))?;
        self.communicator.all_reduce_buffers(buffers, descriptor, tag)
    }

    /// Starts an all-reduce as `Communicator::all_reduce_with_feedback` does, and returns at once.
    pub fn all_reduce_with_feedback<T: Element>(
        &self,
        data: &'scope mut [T],
        residual: &'scope mut [T],
        op: ReduceOp,
        quantization: Quantization,
        tag: Tag,
    ) -> Result<Work> {
        self.communicator.running()?;
        let descriptor = of_elements(data, op, quantization);
        let buffers =
            self.lending.buffers_with_feedback(data, residual).map_err(|error| no_buffers(tag, error))?;
        self.communicator.all_reduce_buffers(buffers, descriptor, tag)
    }
}

fn of_elements<T: Element>(data: &[T], op: ReduceOp, quantization: Quantization) -> OpDescriptor {
    OpDescriptor { count: data.len() as u64, dtype: T::DTYPE, op, quantization }
}

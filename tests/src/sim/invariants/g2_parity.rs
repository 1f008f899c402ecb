//! G2: on success all hold the same bytes, and they are what the members' inputs give.

use std::collections::HashMap;

use pccl_core::types::{OpDescriptor, PeerId};

use super::{Instance, Verdict, ensure};
use crate::sim::reference;

const G2: &str = "G2 parity";

/// What one member contributed.
#[derive(Clone, Debug)]
pub struct Contribution {
    pub descriptor: OpDescriptor,
    pub exact: bool,
    pub input: Vec<u8>,
    /// What quantization lost before, if it keeps that.
    pub residual: Option<Vec<u8>>,
}

#[derive(Default)]
pub struct Parity {
    results: HashMap<Instance, Vec<u8>>,
}

impl Parity {
    /// The first success of an instance is compared with the reference, later ones with the first.
    /// `contributions` gives each member's latest call on the tag: until the first success is seen, that is the
    /// one that was reduced.
    pub fn succeeded<'a>(
        &mut self,
        at: PeerId,
        instance: Instance,
        own: &Contribution,
        result: &[u8],
        contributions: impl Iterator<Item = (PeerId, Option<&'a Contribution>)>,
    ) -> Verdict {
        if let Some(first) = self.results.get(&instance) {
            return ensure(first == result, G2, || {
                format!("{instance} ({}): {at} holds {result:02x?}, another one {first:02x?}", own.descriptor)
            });
        }
        let (mut inputs, mut residuals) = (Vec::new(), Vec::new());
        for (member, contribution) in contributions {
            match contribution {
                Some(theirs) if theirs.descriptor == own.descriptor => {
                    inputs.push(theirs.input.clone());
                    residuals.extend(theirs.residual.clone());
                }
                theirs => {
                    let theirs = theirs.map(|theirs| theirs.descriptor.to_string());
                    let text = format!(
                        "{instance}: {at} has a result of {}, but {member} called {theirs:?}",
                        own.descriptor
                    );
                    return ensure(false, G2, || text);
                }
            }
        }
        let right = reference::check(&own.descriptor, &inputs, &residuals, own.exact, result);
        ensure(right.is_ok(), G2, || format!("{instance} at {at}: {}", right.err().unwrap_or_default()))?;
        self.results.insert(instance, result.to_vec());
        Ok(())
    }
}

mod abort;
mod links;
mod pipe;
mod stranger;
mod sums;
mod world;

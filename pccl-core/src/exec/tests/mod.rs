mod abort;
mod pipe;
mod sums;
mod world;

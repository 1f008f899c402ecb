mod abort;
mod churn;
mod links;
mod pipe;
mod stranger;
mod sums;
mod world;

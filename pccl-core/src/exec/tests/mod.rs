mod abort;
mod churn;
mod cut;
mod links;
mod pipe;
mod stranger;
mod sums;
mod world;

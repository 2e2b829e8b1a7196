//! The whole appliance in one host process, under a seed.

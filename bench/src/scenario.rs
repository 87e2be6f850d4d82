//! What is measured, one file each.

pub(crate) mod apply;
pub(crate) mod memory;
pub(crate) mod mesh;
pub(crate) mod proxy;
pub(crate) mod reads;
pub(crate) mod rotation;
pub(crate) mod start;
pub(crate) mod watches;
pub(crate) mod writes;

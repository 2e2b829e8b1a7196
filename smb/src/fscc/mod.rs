//! File system control codes, information classes and names (MS-FSCC): structures apart from any message.

mod basics;

pub use basics::{AccessMask, FileAttributes, FileTime};

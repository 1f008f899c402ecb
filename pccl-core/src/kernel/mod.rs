//! Arithmetic on spans of elements. To be furnished.

#![allow(unsafe_code)]

//! From image file to one guest tree.

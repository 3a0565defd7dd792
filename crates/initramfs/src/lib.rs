//! cpio newc, segments, compressors, module indexes, injection.

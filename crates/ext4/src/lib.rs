//! ext2, ext3 and ext4: read, journal replay, edit, check.

//! Headers of an allocation group, a sector each: AGF, AGI, AGFL.

mod agf;
mod agfl;
mod agi;

pub(crate) use agf::Agf;
pub(crate) use agi::UNLINKED_BUCKETS;

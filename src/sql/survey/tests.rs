//! What the survey sees, held against what there is to see.

mod nodes;
mod suite;
mod whole;

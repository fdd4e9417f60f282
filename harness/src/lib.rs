//! Partywall.

//! Joins the parts: owns what survives a statement. No other room imports it.

//! Resets, wherever they stand: what follows runs under the tenant's context, and the answers are PostgreSQL's own.

mod drivers;
mod extended;
mod lexer;
mod refused;
mod roles;
mod setups;
mod simple;
mod stream;

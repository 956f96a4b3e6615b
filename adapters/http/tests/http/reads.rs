//! The read routes over a real socket, in front of a real engine and the SQL store.

mod damage;
mod entities;
mod events;
mod freshness;
mod memory;
mod openapi;
mod predictions;
mod series;
mod support;
mod tail;

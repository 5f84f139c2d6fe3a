//! The whole product from outside. One program, so that all of it shares one demo.

mod bad_input;
mod runs_and_devices;
mod the_loop;

//! What becomes of a trap that fails: nobody is there to switch it off and on.
//!
//! | fault | answer | file |
//! |---|---|---|
//! | the program hangs | the watchdog is not fed, the board restarts | [`watchdog`] |
//! | the program panics | its last words are on disk before it ends, and in the diary after the restart | [`last_words`] |
//! | it fails again and again | safe mode: pictures are recorded and not classified | [`starts`] |

pub mod last_words;
pub mod starts;
pub mod watchdog;

pub use starts::{Start, Starts};
pub use watchdog::{DeviceWatchdog, Feeder, Watchdog};

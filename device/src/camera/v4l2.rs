//! A V4L2 device. A thread of its own owns it, so that a device that hangs costs a time limit, not the trap.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rscam::{Camera, Config, IntervalInfo, ResolutionInfo};

use super::{CameraError, Choice, Offer, PixelFormat, Sizes, Still, choose, to_jpeg};

/// What is asked of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V4l2Settings {
    /// `/dev/video0`.
    pub device: String,
    /// Wanted width and height; the nearest offer is taken.
    pub size: (u32, u32),
    /// Frames dropped after the device starts, until its exposure has settled.
    pub warm_up: u32,
    /// Longest wait for one picture, the start of the device included.
    pub limit: Duration,
}

/// Buffers in the driver: as many frames may be older than the trigger.
const BUFFERS: u32 = 2;
/// Frames that come sooner after the last are the next of a burst; later ones are stale.
const BURST_GAP: Duration = Duration::from_millis(250);

/// The device, open while pictures are taken.
#[derive(Debug)]
pub struct V4l2Camera {
    settings: V4l2Settings,
    worker: Option<Worker>,
}

/// The thread that owns the device; it ends when its requests do.
#[derive(Debug)]
struct Worker {
    requests: mpsc::Sender<()>,
    frames: mpsc::Receiver<Result<Vec<u8>, CameraError>>,
    /// Requests that were given up on: their answers are of the past.
    late: u32,
}

impl V4l2Camera {
    /// A camera that opens its device with the first capture.
    pub fn new(settings: V4l2Settings) -> Self {
        Self { settings, worker: None }
    }

    /// What the device offers of what is understood here, and what would be chosen.
    ///
    /// # Errors
    /// It does not open, or offers nothing that is understood.
    pub fn probe(settings: &V4l2Settings) -> Result<(Vec<Offer>, Choice), CameraError> {
        let camera = open(&settings.device)?;
        let (offers, choice) = negotiate(&camera, settings)?;
        Ok((offers, choice))
    }

    fn timeout(&self) -> CameraError {
        CameraError::Timeout { device: self.settings.device.clone(), limit: self.settings.limit }
    }
}

impl Still for V4l2Camera {
    fn capture(&mut self) -> Result<Vec<u8>, CameraError> {
        let until = Instant::now() + self.settings.limit;
        let old = self.worker.take();
        let fresh = old.is_none();
        let mut worker = old.unwrap_or_else(|| Worker::start(self.settings.clone()));
        let _ = worker.requests.send(());
        loop {
            match worker.frames.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) if worker.late > 0 => worker.late -= 1,
                Ok(Ok(frame)) => {
                    self.worker = Some(worker);
                    return Ok(frame);
                }
                Ok(Err(error)) => {
                    // damage to one frame leaves the stream as it is; any other failure ended the thread
                    let goes_on = matches!(error, CameraError::Short { .. } | CameraError::Corrupt(_));
                    self.worker = goes_on.then_some(worker);
                    return Err(error);
                }
                Err(RecvTimeoutError::Timeout) => {
                    worker.late += 1;
                    self.worker = Some(worker);
                    return Err(self.timeout());
                }
                // the thread ended with an answer nobody waited for: the device is opened again, once
                Err(RecvTimeoutError::Disconnected) if !fresh => return self.capture(),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(CameraError::Stream {
                        device: self.settings.device.clone(),
                        reason: "its driver broke off".into(),
                    });
                }
            }
        }
    }

    /// Stops the stream: the device draws power while it runs.
    fn rest(&mut self) {
        self.worker = None;
    }
}

impl Worker {
    fn start(settings: V4l2Settings) -> Self {
        let (requests, asked) = mpsc::channel();
        let (sender, frames) = mpsc::channel();
        thread::spawn(move || {
            if let Err(error) = stream(&settings, &asked, &sender) {
                let _ = sender.send(Err(error));
            }
        });
        Self { requests, frames, late: 0 }
    }
}

/// Answers every request with a frame until there are no more requests, or the device fails.
fn stream(
    settings: &V4l2Settings,
    asked: &mpsc::Receiver<()>,
    sender: &mpsc::Sender<Result<Vec<u8>, CameraError>>,
) -> Result<(), CameraError> {
    let fail = |error: &dyn std::fmt::Display| CameraError::Stream {
        device: settings.device.clone(),
        reason: error.to_string(),
    };
    let mut camera = open(&settings.device)?;
    let (_, choice) = negotiate(&camera, settings)?;
    let interval = fastest(&camera, choice).ok_or_else(|| fail(&"it names no frame rate"))?;
    camera
        .start(&Config {
            interval,
            resolution: choice.size,
            format: choice.format.fourcc().as_bytes(),
            nbuffers: BUFFERS,
            ..Config::default()
        })
        .map_err(|error| fail(&error))?;
    let mut skip = settings.warm_up;
    let mut last: Option<Instant> = None;
    while asked.recv().is_ok() {
        // frames that waited in the driver since the last burst are of the past
        if last.is_some_and(|last| last.elapsed() > BURST_GAP) {
            skip = skip.max(BUFFERS);
        }
        for _ in 0..skip {
            camera.capture().map_err(|error| fail(&error))?;
        }
        skip = 0;
        let frame = camera.capture().map_err(|error| fail(&error))?;
        last = Some(Instant::now());
        if sender.send(to_jpeg(choice.format, choice.size, &frame)).is_err() {
            break;
        }
    }
    Ok(())
}

fn open(device: &str) -> Result<Camera, CameraError> {
    Camera::new(device)
        .map_err(|error| CameraError::Open { device: device.into(), reason: error.to_string() })
}

fn negotiate(camera: &Camera, settings: &V4l2Settings) -> Result<(Vec<Offer>, Choice), CameraError> {
    let mut names = Vec::new();
    let mut offers = Vec::new();
    for info in camera.formats().flatten() {
        names.push(String::from_utf8_lossy(&info.format).to_string());
        let Some(format) =
            PixelFormat::of(info.format).filter(|format| format.fourcc().as_bytes() == info.format)
        else {
            continue;
        };
        // a driver that lists no sizes is asked for the wanted one
        let sizes = match camera.resolutions(&info.format) {
            Ok(ResolutionInfo::Discretes(sizes)) => Sizes::Some(sizes),
            Ok(ResolutionInfo::Stepwise { min, max, step }) => Sizes::Between { min, max, step },
            Err(_) => Sizes::Some(vec![settings.size]),
        };
        offers.push(Offer { format, sizes });
    }
    match choose(&offers, settings.size) {
        Some(choice) => Ok((offers, choice)),
        None => {
            let offered = if names.is_empty() { "no formats".into() } else { names.join(", ") };
            Err(CameraError::NoFormat { device: settings.device.clone(), offered })
        }
    }
}

/// The shortest frame interval: the sooner the picture, the less has moved.
fn fastest(camera: &Camera, choice: Choice) -> Option<(u32, u32)> {
    match camera.intervals(choice.format.fourcc().as_bytes(), choice.size).ok()? {
        IntervalInfo::Discretes(intervals) => intervals
            .into_iter()
            .filter(|&(_, denominator)| denominator > 0)
            .min_by(|a, b| (f64::from(a.0) / f64::from(a.1)).total_cmp(&(f64::from(b.0) / f64::from(b.1)))),
        IntervalInfo::Stepwise { min, max, .. } => {
            // at most 30 a second, where the device would do thousands
            let second = |(n, d): (u32, u32)| f64::from(n) / f64::from(d.max(1));
            let thirtieth = (1, 30);
            Some(if second(min) > second(thirtieth) { min } else { thirtieth })
                .filter(|&wish| second(wish) <= second(max))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_an_error_each_time_and_in_time() {
        let settings = V4l2Settings {
            device: "/dev/video-none".into(),
            size: (640, 480),
            warm_up: 3,
            limit: Duration::from_secs(2),
        };
        let mut camera = V4l2Camera::new(settings.clone());
        let start = Instant::now();
        for _ in 0..3 {
            assert!(matches!(camera.capture(), Err(CameraError::Open { .. })));
        }
        camera.rest();
        assert!(V4l2Camera::probe(&settings).is_err());
        // a file that is no camera
        let mut file = V4l2Camera::new(V4l2Settings { device: "/dev/null".into(), ..settings });
        assert!(file.capture().is_err());
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn answers_that_come_too_late_are_not_taken_for_the_next() {
        let (requests, asked) = mpsc::channel();
        let (sender, frames) = mpsc::channel();
        let settings = V4l2Settings {
            device: "mock".into(),
            size: (8, 8),
            warm_up: 0,
            limit: Duration::from_millis(80),
        };
        let mut camera = V4l2Camera::new(settings);
        camera.worker = Some(Worker { requests, frames, late: 0 });
        assert!(matches!(camera.capture(), Err(CameraError::Timeout { .. })));
        // the device wakes up: it answers the first request, then the second
        asked.recv().unwrap();
        sender.send(Ok(vec![1])).unwrap();
        sender.send(Ok(vec![2])).unwrap();
        assert_eq!(camera.capture().unwrap(), [2]);
        // a damaged frame is an error, and the stream goes on
        sender.send(Err(CameraError::Corrupt("cut".into()))).unwrap();
        assert!(camera.capture().is_err());
        sender.send(Ok(vec![3])).unwrap();
        assert_eq!(camera.capture().unwrap(), [3]);
    }
}

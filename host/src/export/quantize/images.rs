//! Calibration pictures that can be calibrated on.

use csp_models::manifest::ImageInput;

use super::{super::error::ExportError, MIN_IMAGES};

/// Refuses pictures that are too few, of another size, or of one single colour.
pub(super) fn check(input: &ImageInput, images: &[Vec<u8>]) -> Result<(), ExportError> {
    let error = |problem: String, pictures: Vec<usize>| Err(ExportError::Calibration { problem, pictures });
    if images.len() < MIN_IMAGES {
        let problem = format!(
            "{} pictures are too few, at least {MIN_IMAGES} are needed: raise --calibration-images or add training \
             pictures",
            images.len()
        );
        return error(problem, vec![]);
    }
    let size = input.width as usize * input.height as usize * 3;
    if let Some((i, image)) = images.iter().enumerate().find(|(_, image)| image.len() != size) {
        let problem = format!(
            "picture {i} has {} bytes, the network takes {}×{}×3 = {size}",
            image.len(),
            input.width,
            input.height
        );
        return error(problem, vec![i]);
    }
    let flat: Vec<usize> =
        (0..images.len()).filter(|&i| images[i].iter().all(|level| *level == images[i][0])).collect();
    if images.len() - flat.len() < MIN_IMAGES {
        let problem = format!(
            "{} of {} pictures are one single colour and tell nothing about the ranges: check the training pictures",
            flat.len(),
            images.len()
        );
        return error(problem, flat);
    }
    Ok(())
}

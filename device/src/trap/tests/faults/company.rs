//! People in view, and a closer look at what moved.

use csp_models::{
    groups::Group::{self, Human, Vehicle},
    record::Crop,
};

use super::*;
use crate::trap::suppress::Suppression;

/// A trap whose model knows lynxes and hares as those, and whose owner suppresses people.
fn guarded(
    groups: [Option<Group>; 2],
    threshold: f64,
    settings: Settings,
) -> (Trap<TreeKit<Shared>>, Shared) {
    let (mut trap, world) = tree(settings);
    trap.suppress(groups.to_vec(), Some(Suppression::new(vec![Human], threshold)));
    (trap, world)
}

/// Steps until the burst is taken, and no further.
fn shoot(trap: &mut Trap<TreeKit<Shared>>, world: &Shared) {
    world.change(|world| world.moves = 1);
    while world.0.borrow().captures < 3 {
        trap.step().unwrap();
        world.change(|world| world.us += 5_000);
    }
}

#[test]
fn people_are_dropped_before_anything_is_stored() {
    // the place says hare, the picture lynx by a little: either may be a person
    for groups in [[Some(Human), None], [None, Some(Human)]] {
        let (mut trap, world) = guarded(groups, 0.25, settings());
        world.change(|world| world.picture = 2);
        shoot(&mut trap, &world);
        assert!(world.0.borrow().shots.is_empty(), "they wait for the model");
        pass(&mut trap, &world, 1000);
        assert_eq!(world.0.borrow().shots, [Some(Human); 3], "the whole burst, and nothing else was offered");
        let record = world.prediction();
        assert_eq!(record.picture, Picture::Suppressed { group: "human".into() });
        assert!(record.candidates.len() == 2 && record.burst.len() == 2, "the record is whole");
    }
}

#[test]
fn animals_are_kept_once_the_model_has_looked() {
    let (mut trap, world) = guarded([Some(Human), None], 0.6, settings());
    world.change(|world| world.picture = 1);
    shoot(&mut trap, &world);
    assert!(world.0.borrow().kept.is_empty());
    pass(&mut trap, &world, 1000);
    assert_eq!(world.0.borrow().shots, [None; 3]);
    let record = world.prediction();
    assert_eq!((record.picture, record.image), (Picture::Kept, world.0.borrow().kept[0].clone()));
}

#[test]
fn a_model_that_cannot_see_people_holds_nothing_back() {
    let (mut trap, world) = guarded([None, Some(Vehicle)], 0.25, settings());
    shoot(&mut trap, &world);
    assert_eq!(world.0.borrow().kept.len(), 3);
}

#[test]
fn pictures_that_waited_in_vain_are_kept() {
    // saving energy since
    let (mut trap, world) = guarded([Some(Human), None], 0.25, settings());
    shoot(&mut trap, &world);
    world.change(|world| (world.battery, world.us) = (Some(20), world.us + 6_000_000));
    pass(&mut trap, &world, 6_000);
    // the image network fails, or the files are none
    for (picture, error) in [(255, "network broke"), (0, "empty file")] {
        world.change(|world| (world.battery, world.picture, world.captures) = (Some(90), picture, 0));
        pass(&mut trap, &world, 6_000);
        shoot(&mut trap, &world);
        pass(&mut trap, &world, 1_000);
        assert!(world.failures().last().unwrap().error.contains(error), "{:?}", world.failures());
    }
    assert_eq!(world.0.borrow().shots, [None; 9]);
    // no room to wait: kept at once, and said why
    let narrow = Settings { waiting_bytes: 2, ..settings() };
    let (mut trap, world) = guarded([Some(Human), None], 0.25, narrow);
    world.change(|world| world.picture = 2);
    shoot(&mut trap, &world);
    assert_eq!(world.0.borrow().shots, [None; 2]);
    pass(&mut trap, &world, 1_000);
    assert_eq!(world.0.borrow().shots, [None, None, Some(Human)], "what the model saw it judged");
}

#[test]
fn what_moved_is_looked_at_more_closely() {
    // the frames look like a hare, what moves in them like a lynx
    let (mut trap, world) = tree(settings());
    trap.gps = Gps::new(None, None);
    world.change(|world| (world.picture, world.moving) = (1, Some(9)));
    shoot(&mut trap, &world);
    pass(&mut trap, &world, 1000);
    let record = world.prediction();
    let Crop { bbox, candidates, decides } = record.crop.clone().unwrap();
    assert!(decides && record.basis().ends_with(";crop"), "{}", record.basis());
    assert!(matches!(&record.decision, Decision::Class { name, .. } if name == "lynx"), "{record:?}");
    assert_eq!((candidates[0].name.as_str(), record.candidates[0].image), ("lynx", 0.5));
    assert!(candidates[0].fused > 0.99);
    let frame = record.image.rsplit_once('-').unwrap().1.trim_end_matches(".jpg").parse::<u8>().unwrap();
    let [x, y, w, h] = bbox;
    let middle = (f32::from(square_of(frame).0) + 10.0, f32::from(square_of(frame).1) + 10.0);
    assert!((x..x + w).contains(&(middle.0 / 160.0)) && (y..y + h).contains(&(middle.1 / 120.0)), "{bbox:?}");
    assert_eq!(record.burst.len(), 2);
    assert!(record.latency.image_ms > record.latency.prior_ms);

    // less sure than the whole frame: recorded, and no more than that
    let (mut trap, world) = tree(settings());
    trap.gps = Gps::new(None, None);
    world.change(|world| (world.picture, world.moving) = (9, Some(1)));
    shoot(&mut trap, &world);
    pass(&mut trap, &world, 1000);
    assert!(!world.prediction().crop.unwrap().decides);

    // the crop's network fails: the whole frame decides, and the fault is told
    let (mut trap, world) = tree(settings());
    world.change(|world| (world.picture, world.moving) = (9, Some(255)));
    shoot(&mut trap, &world);
    pass(&mut trap, &world, 1000);
    assert_eq!((world.prediction().crop, world.kinds()), (None, vec!["model_fault"]));
}

#[test]
fn a_person_in_the_crop_alone_is_a_person() {
    let (mut trap, world) = guarded([Some(Human), None], 0.6, settings());
    trap.gps = Gps::new(None, None);
    world.change(|world| (world.picture, world.moving) = (1, Some(9)));
    shoot(&mut trap, &world);
    pass(&mut trap, &world, 1000);
    assert_eq!(world.0.borrow().shots, [Some(Human); 3]);
}

#[test]
fn what_cannot_be_hidden_is_not_written() {
    let (mut trap, world) = tree(settings());
    world.change(|world| (world.seals, world.seal_fails, world.moves) = (true, true, 1));
    pass(&mut trap, &world, 2_000);
    assert!(world.0.borrow().entries.is_empty());
    assert_eq!(trap.health(), Health::StoreFault);
    world.change(|world| world.seal_fails = false);
    pass(&mut trap, &world, 3_000);
    assert_eq!(world.prediction().place, None, "the owner's alone");
}

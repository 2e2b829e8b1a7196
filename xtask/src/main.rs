//! Build, image, run, test and bench the appliance.

fn main() {}

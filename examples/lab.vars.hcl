# Values for classroom.hcl. Files that end in .vars.hcl are never read as spec.

term = "2026-autumn"

students = {
  ada = {
    courses = ["databases", "networks"]
  }
  grace = {
    courses = ["compilers"]
    group   = "tutors"
  }
}

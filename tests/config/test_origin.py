from builder.config.origin import Origins
from builder.errors import DEFAULT, Origin

A, B = Origin("a.yaml", 1, 1), Origin("b.yaml", 2, 3)


def test_a_path_without_an_origin_has_its_nearest_ancestors():
    origins = Origins({("model",): A, ("model", "layers", "fc"): B})
    assert origins.of(("model", "layers", "fc", "bias")) == B
    assert origins.of(("model", "layers")) == A
    assert origins.of(("data",)) == DEFAULT


def test_what_is_under_a_path_is_known_by_its_paths_from_there():
    origins = Origins({("model",): A, ("model", "layers", "fc"): B, ("data",): B}).under(("model", "layers"))
    assert dict(origins.items()) == {(): A, ("fc",): B}


def test_merged_origins_win():
    origins = Origins({("a", "b"): A, ("c",): A})
    origins.merge(Origins({("b",): B}), ("a",))
    assert origins.of(("a", "b")) == B and origins.of(("c",)) == A

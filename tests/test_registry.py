import sys
import types

import pytest

from builder import registry
from builder.errors import DuplicateName, UnknownName
from builder.registry import Registry


def test_an_entry_is_registered_by_decorator_by_name_and_by_call():
    things = Registry("thing")

    @things.register
    class Plain:
        pass

    @things.register("other")
    def function():
        pass

    things.register("number", 3)
    assert things.get("Plain") is Plain
    assert things.get("other") is function
    assert things.get("number") == 3
    assert things.names() == ["Plain", "number", "other"]


def test_registering_the_same_object_again_is_fine():
    things = Registry("thing")
    things.register("a", int)
    things.register("a", int)
    assert len(things) == 1


def test_registering_another_object_under_a_taken_name_names_both():
    things = Registry("thing")
    things.register("a", int)
    with pytest.raises(DuplicateName) as told:
        things.register("a", str)
    assert str(told.value) == "thing 'a' is registered twice: by builtins.int and by builtins.str"


def test_an_unknown_name_is_told_with_the_nearest():
    things = Registry("thing")
    things.register("Linear", int)
    things.register("Bilinear", str)
    with pytest.raises(UnknownName) as told:
        things.get("Linaer")
    assert str(told.value) == "unknown thing 'Linaer'; did you mean 'Linear' or 'Bilinear'?"
    assert told.value.exit_code == 2


def test_sources_are_imported_at_the_first_look_up_only(tmp_path, monkeypatch):
    (tmp_path / "late_source.py").write_text("import lazy_things\nlazy_things.things.register('late', 1)\n")
    (tmp_path / "lazy_things.py").write_text(
        "from builder.registry import Registry\nthings = Registry('thing', ('late_source',))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import lazy_things

    lazy_things.things.register("early", 2)
    assert "late_source" not in sys.modules
    assert lazy_things.things.get("late") == 1
    assert lazy_things.things.names() == ["early", "late"]


def test_a_source_that_fails_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    things = Registry("thing", ("absent_source",))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            things.names()


def test_users_register_by_kind():
    def own_loss():
        pass

    registry.register.loss("own_loss_of_this_test", own_loss)
    try:
        assert registry.losses.get("own_loss_of_this_test") is own_loss
        assert registry.losses.name_of(own_loss) == "own_loss_of_this_test"
    finally:
        del registry.losses._entries["own_loss_of_this_test"]


def test_every_kind_has_a_register():
    assert sorted(vars(registry.register)) == sorted(registry.registries)


def test_a_name_is_added_by_somebody_else_until_the_registrys_own_are_there(monkeypatch):
    registry = Registry("thing", ("source_of_things",))
    registry.register("mine", object())
    assert registry.added("mine") and not registry.added("other")
    monkeypatch.setitem(sys.modules, "source_of_things", types.ModuleType("source_of_things"))
    assert not registry.added("mine")

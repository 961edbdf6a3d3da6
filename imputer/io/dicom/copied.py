"""What goes over from the source as it is: the patient, the study, the place in space; never the acquisition.

White lists by module of PS3.3, so that what nobody thought of stays behind: private elements, scanner settings,
overlays, signatures, procedure steps. Bytes are copied, not decoded text: the same patient must have the same name, and
text that is not valid in its character set would otherwise change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom import Dataset, config
from pydicom.charset import convert_encodings, default_encoding, encode_string
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.valuerep import STANDARD_VR, STR_VR, validate_value

from imputer.io.dicom.elements import Element, Elements, dataset, merged, own, raw
from imputer.io.dicom.headers import LARGE_BYTES, element_of, first, tag_of
from imputer.io.dicom.parse import quiet

# PS3.3 C.7.1.1. The last two lines are retired, and files have them still.
PATIENT: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence", "GroupOfPatientsIdentificationSequence", "PatientBirthDate",
    "PatientBirthTime", "PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar", "PatientSex", "QualityControlSubject", "StrainDescription", "StrainNomenclature",
    "StrainStockSequence", "StrainAdditionalInformation", "StrainCodeSequence", "GeneticModificationsSequence",
    "OtherPatientNames", "OtherPatientIDsSequence", "ReferencedPatientPhotoSequence", "ReferencedPatientSequence",
    "EthnicGroupCodeSequence", "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole",
    "ResponsibleOrganization", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "OtherPatientIDs",
    "EthnicGroup",
)  # fmt: skip
# PS3.3 C.7.1.3 and C.7.2.3. What C.7.3.2 says of the source's series does not hold for another one.
CLINICAL_TRIAL: Final = (
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID", "OtherClinicalTrialProtocolIDsSequence", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "IssuerOfClinicalTrialSiteID", "ClinicalTrialSubjectID", "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "ClinicalTrialTimePointID", "IssuerOfClinicalTrialTimePointID", "ClinicalTrialTimePointDescription",
    "ClinicalTrialTimePointTypeCodeSequence", "LongitudinalTemporalOffsetFromEvent", "LongitudinalTemporalEventType",
    "ConsentForClinicalTrialUseSequence",
)  # fmt: skip
# PS3.3 C.7.2.1
STUDY: Final = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence", "StudyDescription", "ProcedureCodeSequence", "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence", "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence", "RequestingService", "RequestingServiceCodeSequence",
    "ReferencedStudySequence", "ReasonForPerformedProcedureCodeSequence",
)  # fmt: skip
# PS3.3 C.7.2.2
PATIENT_STUDY: Final = (
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize",
    "PatientSizeCodeSequence", "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension",
    "PatientWeight", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus", "AdditionalPatientHistory",
    "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit", "ReasonForVisitCodeSequence",
    "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "IssuerOfServiceEpisodeIDSequence",
    "ServiceEpisodeDescription", "PatientState",
)  # fmt: skip
PLACE: Final = ("FrameOfReferenceUID", "PositionReferenceIndicator")  # PS3.3 C.7.4.1
SERIES: Final = ("PatientPosition", "AnatomicalOrientationType")  # PS3.3 C.7.3.1
EQUIPMENT: Final = ("InstitutionName",)  # PS3.3 C.7.5.1: the house stays, the machine is another one
# PS3.3 C.7.6.1: a synthetic head shows its face as the source does, and a phantom stays a phantom.
IMAGE: Final = ("RecognizableVisualFeatures", "QualityControlImage")
# PS3.3 C.12.1: the character set of the bytes, and the clock and the honesty of the dates.
COMMON: Final = ("SpecificCharacterSet", "TimezoneOffsetFromUTC", "LongitudinalTemporalInformationModified")
# PS3.3 C.7.6.4, where the source has an agent. Its doses and times belong to the acquisition.
CONTRAST: Final = (
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusRoute",
    "ContrastBolusAdministrationRouteSequence",
)  # fmt: skip
SHARED: Final = (
    *PATIENT, *CLINICAL_TRIAL, *STUDY, *PATIENT_STUDY, *PLACE, *SERIES, *EQUIPMENT, *IMAGE, *COMMON,
)  # fmt: skip
# PS3.3 C.7.10.1 and C.7.6.1: the data that the image results from, slice by slice; only where valid.
ACQUISITION: Final = ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "AcquisitionNumber")
# Type 2 in modules that every image has: empty where the source lacks them. Of the optional modules nothing is added:
# an empty element would claim that the module is there.
REQUIRED: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "PositionReferenceIndicator", "PatientPosition",
)  # fmt: skip

DEEPEST = 8  # sequences in sequences; the deepest of these modules has three
_CHARACTER_SET: Final = tag_of("SpecificCharacterSet")
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
_CHECKED = frozenset(
    {"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"}
)  # kinds whose form does not depend on a character set


def shared(source: Dataset) -> tuple[Elements, tuple[str, ...]]:
    """What all images of the derived series take from the header of a source image.

    Returns
    -------
    The elements, and the keywords of those that are not valid in the source; they are copied all the same, as one
    patient and one study must have the same values everywhere (PS3.3 A.1.2).
    """
    found = merged(*(own(keyword) for keyword in REQUIRED), verbatim(source, SHARED))
    if value_of(source, "Laterality"):  # empty is an error for a part that is no pair
        found.update(verbatim(source, ("Laterality",)))
    found.update(_contrast(source))
    return found, tuple(
        keyword for keyword in (*SHARED, "BodyPartExamined", "Laterality") if not is_valid(source, keyword)
    )


def acquisition(source: Dataset) -> Elements:
    """When and in what acquisition the data of a slice were taken, where the source says so in a valid form."""
    return verbatim(source, [keyword for keyword in ACQUISITION if is_valid(source, keyword)])


def _contrast(source: Dataset) -> Elements:
    """The agent. Multi-frame objects have its code only (PS3.3 C.7.6.4b); the text is Type 2 in a classic image."""
    if tag_of("ContrastBolusAgent") in source:
        return verbatim(source, CONTRAST)
    agent = first(source, "ContrastBolusAgentSequence")
    return {} if agent is None else renamed("ContrastBolusAgent", value_of(agent, "CodeMeaning"))


def verbatim(source: Dataset, keywords: Iterable[str]) -> Elements:
    """Those attributes that the source has, with its bytes; sequences without their private elements.

    What cannot be decoded at all, nests deeper than the standard does, or is far too large, is left out.
    """
    copies = (_copy(source, tag_of(keyword)) for keyword in keywords)
    return {copy.tag: copy for copy in copies if copy is not None and _size(copy) <= LARGE_BYTES}  # it is in every file


def renamed(keyword: str, value: bytes) -> Elements:
    """The bytes of an attribute of the source as the value of another attribute."""
    tag = tag_of(keyword)
    element = raw(tag, dictionary_VR(tag), value)
    return {element.tag: element}


def value_of(source: Dataset, keyword: str) -> bytes:
    """Value of an attribute as the bytes of the source, without padding; empty where it has none, or has items."""
    copy = _copy(source, tag_of(keyword))
    return copy.value.strip(b" \0") if isinstance(copy, RawDataElement) and copy.value else b""


def is_valid(source: Dataset, keyword: str) -> bool:
    """Whether an attribute is absent, empty, or in the form that PS3.5 demands of its kind."""
    vr = dictionary_VR(tag_of(keyword))
    if vr not in _CHECKED:
        return True
    try:
        for value in value_of(source, keyword).decode("ascii").split("\\"):
            validate_value(vr, value.strip(), config.RAISE)
    except ValueError:
        return False
    return True


def _copy(source: Dataset, tag: int) -> Element | None:
    """An element for pydicom's writer; None where there is nothing that could be copied."""
    if tag not in source:
        return None
    try:
        with quiet():
            return _element(source, tag, _encodings(source) or [default_encoding], 0)
    except Exception:  # damaged bytes end in any kind of exception in pydicom; messages of those quote values
        return None


def _size(element: Element) -> int:
    """Bytes of a value; of a sequence, what its items have at least (PS3.5 7.1.2 and 7.5)."""
    if isinstance(element, RawDataElement):
        return element.length
    return sum(8 + sum(8 + _size(inner) for inner in item.elements()) for item in element.value)


def _element(source: Dataset, tag: int, encodings: list[str], depth: int) -> Element | None:
    found = element_of(source, tag)
    vr = _vr_of(found, tag)
    if vr is None or (tag == _CHARACTER_SET and _encodings(source) is None):
        return None
    if vr == "SQ":
        return DataElement(tag, vr, list(_items(source[tag], encodings, depth)))
    if isinstance(found, RawDataElement) and (vr in STR_VR or found.is_little_endian) and found.value is not None:
        return raw(tag, vr, found.value)
    return raw(tag, vr, _encoded(source[tag], vr, encodings))


def _encodings(source: Dataset) -> list[str] | None:
    """Python's names of the character sets of a data set or item; None where it tells none that text can be written in.

    pydicom takes names of Python, too, and some of those are not for text, or not with ASCII, in which our own text is.
    """
    if _CHARACTER_SET not in source:
        return None
    found = element_of(source, _CHARACTER_SET)
    try:
        told = convert_raw_data_element(found) if isinstance(found, RawDataElement) else source[_CHARACTER_SET]
        encodings = convert_encodings(told.value)
        return encodings if encode_string(_PRINTABLE, encodings) == _PRINTABLE.encode("ascii") else None
    except Exception:  # codecs raise what they like
        return None


def _vr_of(found: Element | None, tag: int) -> str | None:
    """Value representation: what the file says; the dictionary where it is implicit, or unknown to the writer.

    None where they do not agree whether it is text, a sequence or numbers: no reader would understand it.
    """
    known = dictionary_VR(tag)
    stated = known if found is None or found.VR in (None, "UN") else str(found.VR)
    agree = stated in STANDARD_VR and all((stated in kind) == (known in kind) for kind in ({"SQ"}, STR_VR))
    return stated if agree else None


def _items(entries: DataElement, encodings: list[str], depth: int) -> Iterator[Dataset]:
    """Items with their public elements; an item without a character set inherits it (PS3.5 7.5.3)."""
    if depth >= DEEPEST:
        raise RecursionError
    for entry in entries.value or []:
        inner = _encodings(entry) or encodings
        copies = (
            _element(entry, tag, inner, depth + 1)
            for tag in list(entry.keys())  # iterating a data set would decode its values
            if tag.element != 0 and not tag.is_private and dictionary_has_tag(tag)
        )
        yield dataset({copy.tag: copy for copy in copies if copy is not None})


def _encoded(converted: DataElement, vr: str, encodings: list[str]) -> bytes:
    """Value of an element that pydicom has decoded, encoded again; now, as what cannot be encoded is left out."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, True
    write_data_element(stream, DataElement(converted.tag, vr, converted.value), encodings)
    return stream.getvalue()[8:]  # after tag and length

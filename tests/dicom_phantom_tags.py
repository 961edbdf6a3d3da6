"""Attribute values of the DICOM phantom: identities, scanners, sequence parameters, functional groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydicom import Dataset

if TYPE_CHECKING:
    from dicom_phantom import Phantom

PATIENT: dict[str, Any] = {
    "PatientName": "Leak^Canary",
    "PatientID": "CANARY-4711",
    "PatientBirthDate": "19610203",
    "PatientSex": "F",
    "PatientAge": "058Y",
    "PatientWeight": "61.5",
    "OtherPatientNames": "Canary^Maiden",
    "PatientAddress": "Canary Row 7",
    "AccessionNumber": "CANARY-ACC",
    "StudyID": "CANARY-ST",
    "StudyDate": "20200102",
    "StudyTime": "103000",
    "StudyDescription": "Canary head study",
    "ReferringPhysicianName": "Canary^Referrer",
    "OperatorsName": "Canary^Operator",
    "InstitutionName": "Canary Hospital",
    "InstitutionAddress": "Canary Lane 1",
    "StationName": "CANARYSTATION",
    "RequestedProcedureDescription": "Canary request",
    "BodyPartExamined": "HEAD",
}
EQUIPMENT: dict[str, dict[str, str]] = {
    "siemens": {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Phantom One", "SoftwareVersions": "syngo MR E11"},
    "ge": {"Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "Phantom Two", "SoftwareVersions": "27"},
    "philips": {
        "Manufacturer": "Philips Medical Systems",
        "ManufacturerModelName": "Phantom Three",
        "SoftwareVersions": "5.4.1",
    },
}
for _values in EQUIPMENT.values():
    _values["DeviceSerialNumber"] = "CANARY-SERIAL"


@dataclass(frozen=True)
class Timing:
    """Sequence parameters, times in ms, flip angle in degrees; `ti` 0 is no inversion, None a silent one."""

    scanning: list[str]
    variant: list[str]
    options: list[str]
    tr: float
    te: float
    ti: float | None
    flip: float
    train: int
    acquisition: str
    pulse: str
    agent: str = ""


_SPIN_ECHO = Timing(["SE"], ["SK", "SP"], ["PFP"], 4500, 96, 0, 150, 15, "2D", "tse2d1_15")
_GRADIENT_ECHO = Timing(["GR", "IR"], ["SP", "MP"], ["IR"], 2300, 2.98, 900, 9, 1, "3D", "tfl3d1_16ns")
_TIMING = {
    "t1": _GRADIENT_ECHO,
    "t2": _SPIN_ECHO,
    "pd": replace(_SPIN_ECHO, tr=3200, te=14, train=7, pulse="tse2d1_7"),
    "flair": replace(
        _SPIN_ECHO, scanning=["SE", "IR"], options=["IR"], tr=9000, te=118, ti=2500, train=16, pulse="tir2d1_16fs"
    ),
}
# How other vendors acquire the same T1: GE as BRAVO, Philips as T1-FFE that does not tell its inversion time.
_T1 = {
    "ge": replace(_GRADIENT_ECHO, scanning=["GR"], variant=["SS", "SP", "SK"], tr=8.2, te=3.2, ti=450, flip=12),
    "philips": replace(_GRADIENT_ECHO, scanning=["GR"], variant=["MP"], tr=8.1, te=3.7, ti=None, flip=8, train=220),
}


def timing_of(phantom: Phantom) -> Timing:
    """Sequence parameters of a phantom's contrast on a scanner of its vendor."""
    kind = "t1" if phantom.contrast == "t1ce" else phantom.contrast
    timing = _T1[phantom.vendor] if kind == "t1" and phantom.vendor in _T1 else _TIMING[kind]
    timing = replace(timing, agent="Gadovist" if phantom.contrast == "t1ce" else "")
    return replace(timing, acquisition=phantom.acquisition) if phantom.acquisition else timing


def mr_tags(timing: Timing, vendor: str) -> dict[str, Any]:
    """MR Image module, PS3.3 C.8.3.1, and the agent where there is one."""
    pulse = {"siemens": f"*{timing.pulse}", "ge": None, "philips": None}[vendor]
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "M_FFE" if vendor == "philips" else "M"],
        "ScanningSequence": timing.scanning,
        "SequenceVariant": timing.variant,
        "ScanOptions": timing.options,
        "MRAcquisitionType": timing.acquisition,
        "RepetitionTime": timing.tr,
        "EchoTime": timing.te,
        "InversionTime": timing.ti or None,
        "EchoTrainLength": timing.train,
        "FlipAngle": timing.flip,
        "SequenceName": pulse,
        "NumberOfAverages": 1,
        "EchoNumbers": 1,
        "MagneticFieldStrength": 3,
        "ImagingFrequency": 123.25,
        "ImagedNucleus": "1H",
        "PixelBandwidth": 240,
        "InPlanePhaseEncodingDirection": "ROW",
        "ContrastBolusAgent": timing.agent or None,
    }


def ct_tags() -> dict[str, Any]:
    """CT Image module, PS3.3 C.8.2.1."""
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": 120,
        "XRayTubeCurrent": 300,
        "ExposureTime": 1000,
        "ConvolutionKernel": "H30s",
        "GantryDetectorTilt": 0,
    }


def _item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def enhanced_tags(
    dataset: Dataset,
    phantom: Phantom,
    *,
    positions: list[list[str]],
    ranks: list[int],
    orientation: list[str],
    spacing: list[str],
    organization: str,
) -> None:
    """Give a dataset the modules and functional groups of an enhanced object (PS3.3 C.7.6.16, C.8.13, C.8.15).

    `positions` and `ranks` (InStackPositionNumber) are those of the frames, in their order in the file.
    """
    _dimensions(dataset, organization)
    dataset.AcquisitionDateTime = "20200102103000"
    dataset.AcquisitionDuration = 300.0
    dataset.ContentQualification = "RESEARCH"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = []
    shared = _item(
        PixelMeasuresSequence=[
            _item(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=spacing[2], SpacingBetweenSlices=spacing[2])
        ],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=orientation)],
        FrameAnatomySequence=[_item(FrameLaterality="U", AnatomicRegionSequence=[_code("69536005", "SCT", "Head")])],
        PixelValueTransformationSequence=[
            _item(
                RescaleIntercept=phantom.rescale[1],
                RescaleSlope=phantom.rescale[0],
                RescaleType="HU" if phantom.modality == "CT" else "US",
            )
        ],
        FrameVOILUTSequence=[_item(WindowCenter="500", WindowWidth="1000")],
    )
    if phantom.modality == "CT":
        _enhanced_ct(dataset, shared)
    else:
        _enhanced_mr(dataset, shared, timing_of(phantom), phantom)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[
                _item(
                    FrameAcquisitionDateTime="20200102103000",
                    FrameReferenceDateTime="20200102103000",
                    FrameAcquisitionDuration=300000.0,
                    StackID="1",
                    InStackPositionNumber=rank,
                    DimensionIndexValues=[1, rank],
                )
            ],
            PlanePositionSequence=[_item(ImagePositionPatient=position)],
        )
        for position, rank in zip(positions, ranks, strict=True)
    ]


def _dimensions(dataset: Dataset, organization: str) -> None:
    """Multi-frame Dimension module, PS3.3 C.7.6.17: stack, then position in the stack."""
    frame_content = 0x00209111
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=frame_content,
            DimensionDescriptionLabel=label,
        )
        for pointer, label in ((0x00209056, "Stack ID"), (0x00209057, "In-Stack Position Number"))
    ]


def _enhanced_mr(dataset: Dataset, shared: Dataset, timing: Timing, phantom: Phantom) -> None:
    kind = {"t1": "T1", "t1ce": "T1", "t2": "T2", "pd": "PROTON_DENSITY", "flair": "FLUID_ATTENUATED"}[phantom.contrast]
    gradient = "GR" in timing.scanning
    frame_type = _item(
        FrameType=["ORIGINAL", "PRIMARY", kind, "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast=kind,
    )
    for element in frame_type:
        if element.keyword != "FrameType":
            dataset[element.tag] = element
    dataset.ImageType = frame_type.FrameType
    dataset.ResonantNucleus, dataset.MagneticFieldStrength, dataset.KSpaceFiltering = "1H", 3.0, "NONE"
    dataset.ApplicableSafetyStandardAgency = "IEC"
    dataset.PulseSequenceName = timing.pulse
    dataset.MRAcquisitionType = timing.acquisition
    dataset.EchoPulseSequence = "GRADIENT" if gradient else "SPIN"
    if not gradient:
        dataset.MultipleSpinEcho = "NO"
    dataset.MultiPlanarExcitation = "NO"
    dataset.SteadyStatePulseSequence = "NONE"
    for keyword in ("PhaseContrast", "TimeOfFlightContrast", "EchoPlanarPulseSequence", "SaturationRecovery"):
        setattr(dataset, keyword, "NO")
    dataset.SpectrallySelectedSuppression = "NONE"
    dataset.OversamplingPhase = "NONE"
    dataset.GeometryOfKSpaceTraversal = "RECTILINEAR"
    dataset.SegmentedKSpaceTraversal = "PARTIAL"
    dataset.RectilinearPhaseEncodeReordering = "LINEAR"
    dataset.NumberOfKSpaceTrajectories = 1
    if timing.acquisition == "3D":
        dataset.CoverageOfKSpace = "FULL"
    if timing.agent:
        route = _code("47625008", "SCT", "Intravenous route")
        dataset.ContrastBolusAgentSequence = [
            _item(
                CodeValue="353962003",
                CodingSchemeDesignator="SCT",
                CodeMeaning="gadobutrol",
                ContrastBolusAgentNumber=1,
                ContrastBolusAdministrationRouteSequence=[route],
                ContrastBolusIngredientCodeSequence=[_code("16087007", "SCT", "Gadolinium")],
                ContrastBolusVolume=6.0,
                ContrastBolusIngredientConcentration=1.0,
            )
        ]
        shared.ContrastBolusUsageSequence = [
            _item(
                ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered="YES", ContrastBolusAgentDetected="YES",
                ContrastBolusAgentPhase="POST_CONTRAST",
            )
        ]  # fmt: skip
    shared.MRImageFrameTypeSequence = [frame_type]
    _mr_groups(shared, timing, phantom)


def _mr_groups(shared: Dataset, timing: Timing, phantom: Phantom) -> None:
    """Functional groups of MR, PS3.3 C.8.13.5."""
    shared.MRTimingAndRelatedParametersSequence = [
        _item(
            RepetitionTime=timing.tr,
            FlipAngle=timing.flip,
            EchoTrainLength=timing.train,
            RFEchoTrainLength=0 if "GR" in timing.scanning else timing.train,
            GradientEchoTrainLength=1 if "GR" in timing.scanning else 0,
            SpecificAbsorptionRateSequence=[
                _item(SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=0.1)
            ],
            GradientOutputType="DB_DT",
            GradientOutput=20.0,
            OperatingModeSequence=[
                _item(OperatingModeType="GRADIENT", OperatingMode="IEC_NORMAL"),
                _item(OperatingModeType="RF", OperatingMode="IEC_NORMAL"),
            ],
        )
    ]
    shared.MRFOVGeometrySequence = [
        _item(
            InPlanePhaseEncodingDirection="ROW", MRAcquisitionFrequencyEncodingSteps=phantom.shape[1],
            MRAcquisitionPhaseEncodingStepsInPlane=phantom.shape[0], PercentSampling=100, PercentPhaseFieldOfView=100,
        )
    ]  # fmt: skip
    if timing.acquisition == "3D":
        shared.MRFOVGeometrySequence[0].MRAcquisitionPhaseEncodingStepsOutOfPlane = phantom.shape[2]
    shared.MREchoSequence = [_item(EffectiveEchoTime=timing.te)]
    modifier = _item(
        InversionRecovery="YES" if timing.ti else "NO", FlowCompensation="NONE", Spoiling="RF", T2Preparation="NO",
        SpectrallySelectedExcitation="NONE", SpatialPresaturation="NONE", PartialFourier="NO",
        ParallelAcquisition="NO",
    )  # fmt: skip
    if timing.ti:
        modifier.InversionTimes = timing.ti
    shared.MRModifierSequence = [modifier]
    shared.MRImagingModifierSequence = [
        _item(
            MagnetizationTransfer="NONE", BloodSignalNulling="NO", Tagging="NONE", TransmitterFrequency=123.25,
            PixelBandwidth=240,
        )
    ]  # fmt: skip
    coil = _item(ReceiveCoilName="HEAD", ReceiveCoilType="VOLUME", ReceiveCoilManufacturerName="")
    coil.QuadratureReceiveCoil = "YES"
    shared.MRReceiveCoilSequence = [coil]
    shared.MRTransmitCoilSequence = [
        _item(TransmitCoilName="BODY", TransmitCoilType="BODY", TransmitCoilManufacturerName="")
    ]
    shared.MRAveragesSequence = [_item(NumberOfAverages=1)]


def _enhanced_ct(dataset: Dataset, shared: Dataset) -> None:
    """Enhanced CT, PS3.3 C.8.15: what readers look at, not every macro of the table."""
    frame_type = _item(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    for element in frame_type:
        if element.keyword != "FrameType":
            dataset[element.tag] = element
    dataset.ImageType = frame_type.FrameType
    dataset.AcquisitionDuration = 3.0
    shared.CTImageFrameTypeSequence = [frame_type]
    shared.CTAcquisitionTypeSequence = [_item(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")]
    shared.CTAcquisitionDetailsSequence = [
        _item(
            RotationDirection="CW", RevolutionTime=1.0, SingleCollimationWidth=0.6, TotalCollimationWidth=38.4,
            TableHeight=150.0, GantryDetectorTilt=0.0, DataCollectionDiameter=500.0,
        )
    ]  # fmt: skip
    shared.CTReconstructionSequence = [
        _item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ", ConvolutionKernel="H30s", ConvolutionKernelGroup="BRAIN",
            ReconstructionDiameter=250.0, ReconstructionPixelSpacing=[1.0, 1.0], ReconstructionAngle=360.0,
            ImageFilter="NONE",
        )
    ]  # fmt: skip
    shared.CTExposureSequence = [
        _item(
            ExposureTimeInms=1000.0, XRayTubeCurrentInmA=300.0, ExposureInmAs=300.0, ExposureModulationType="NONE",
        )
    ]  # fmt: skip
    shared.CTXRayDetailsSequence = [_item(KVP=120, FocalSpots=[0.9], FilterType="FLAT", FilterMaterial="ALUMINUM")]
    shared.CTTableDynamicsSequence = [_item(TableSpeed=30.0, TableFeedPerRotation=30.0, SpiralPitchFactor=0.8)]
    shared.CTPositionSequence = [
        _item(
            ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
            DataCollectionCenterPatient=[0.0, 0.0, 0.0],
            TablePosition=0.0,
        )
    ]
    shared.CTPositionSequence[0].TablePosition = 0.0
    shared.CTGeometrySequence = [_item(DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=550.0)]
    shared.IrradiationEventIdentificationSequence = [_item(IrradiationEventUID="2.25.77")]

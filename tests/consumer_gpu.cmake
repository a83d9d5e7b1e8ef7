# libsluice's GPU importers against the scripted broker, whose memory is lavapipe's.
if(TEST_VULKAN_FOUND)
	sluice_layer(sluice_fake_gpu fake_gpu.c exported_memory.c)
	target_link_libraries(sluice_fake_gpu PUBLIC sluice_fake_broker sluice_fake_timeline
		PkgConfig::TEST_VULKAN)
	target_link_options(sluice_fake_gpu PUBLIC -Wl,--wrap=close) # each is looked at
endif()
if(TEST_VULKAN_FOUND AND SLUICE_CUDA)
	sluice_layer(sluice_cuda_session cuda_session.c)
	target_link_libraries(sluice_cuda_session PUBLIC sluice_fake_gpu PkgConfig::FFNVCODEC
		${CMAKE_DL_LIBS})
	foreach(name test_consumer_cuda test_consumer_fallback test_consumer_gpu_hostile
			test_consumer_leave test_consumer_timeline test_consumer_waits)
		sluice_test(${name} sluice_cuda_session)
		sluice_with_fake_cuda(${name})
		set_property(TEST ${name} APPEND PROPERTY LABELS lavapipe)
	endforeach()
	set_property(TEST test_consumer_cuda test_consumer_leave test_consumer_waits
		APPEND PROPERTY LABELS thread)
	# What it does with a broker that no test of the real one can bring about.
	sluice_test(test_consumer_check sluice_cuda_session)
	sluice_with_fake_cuda(test_consumer_check)
	target_sources(test_consumer_check PRIVATE program.c)
	target_compile_definitions(test_consumer_check PRIVATE
		SLUICE_CUDA_CHECK="$<TARGET_FILE:sluice-cuda-check>")
	add_dependencies(test_consumer_check sluice-cuda-check)
	set_property(TEST test_consumer_check APPEND PROPERTY LABELS program)
endif()
if(TEST_VULKAN_FOUND AND SLUICE_VULKAN)
	sluice_test(test_consumer_vulkan sluice_fake_gpu)
	set_property(TEST test_consumer_vulkan APPEND PROPERTY LABELS lavapipe)
endif()
